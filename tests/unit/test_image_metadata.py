"""The job in its PNG comes back as it went in, and nothing else is taken for one."""

from __future__ import annotations

import io
import json
import struct
import zlib
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from shared.errors import InvalidInput
from shared.image_metadata import SIGNATURE, encode_png, parameters_text, read_metadata
from shared.job import Job

DIGEST = "0123456789abcdef" * 4
UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def make_fields(**fields: object) -> dict[str, object]:
    return {
        **asdict(Job(model="demo", prompt="a red circle", seed=3, scheduler="DDIMScheduler")),
        **fields,
    }


def make_png(pixels: Image.Image | None = None, **fields: object) -> bytes:
    return encode_png(
        pixels or Image.new("RGB", (64, 48), (1, 2, 3)), job=make_fields(**fields), digest=DIGEST
    )


def make_foreign_png(**texts: str) -> bytes:
    chunks = PngInfo()
    for key, text in texts.items():
        chunks.add_itxt(key, text)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=chunks)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@given(prompt=UNICODE, negative=st.none() | UNICODE, model=UNICODE)
def test_any_text_comes_back_byte_for_byte(prompt: str, negative: str | None, model: str) -> None:
    fields = make_fields(prompt=prompt, negative_prompt=negative, model=model)
    record = read_metadata(encode_png(Image.new("RGB", (8, 8)), job=fields, digest=DIGEST))
    assert record == {"version": 1, "digest": DIGEST, "job": fields, "pin": {}}


@given(
    st.dictionaries(
        UNICODE,
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**63), 2**63)
            | st.floats(allow_nan=False, allow_infinity=False)
            | UNICODE,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(UNICODE, inner, max_size=3),
            max_leaves=8,
        ),
        max_size=5,
    )
)
def test_any_json_pin_comes_back(pin: dict[str, object]) -> None:
    data = encode_png(Image.new("L", (8, 8)), job=make_fields(), digest=DIGEST, pin=pin)
    assert read_metadata(data)["pin"] == pin


@given(size=st.tuples(st.integers(1, 40), st.integers(1, 40)), data=st.data())
def test_pixels_come_back_and_bytes_are_the_same_each_time(
    size: tuple[int, int], data: st.DataObject
) -> None:
    pixels = data.draw(st.binary(min_size=size[0] * size[1] * 3, max_size=size[0] * size[1] * 3))
    image = Image.frombytes("RGB", size, pixels)
    first = make_png(image)
    assert first == make_png(Image.frombytes("RGB", size, pixels))
    assert Image.open(io.BytesIO(first)).tobytes() == pixels


def test_the_order_of_fields_does_not_matter() -> None:
    fields = make_fields()
    backwards = dict(reversed(fields.items()))
    image = Image.new("RGB", (8, 8))
    assert encode_png(image, job=fields, digest=DIGEST) == encode_png(
        image, job=backwards, digest=DIGEST
    )


def test_what_an_image_was_opened_with_is_not_written_again() -> None:
    image = Image.new("RGB", (8, 8))
    tagged = image.copy()
    tagged.info = {"icc_profile": b"a profile", "transparency": (0, 0, 0), "comment": "hello"}
    assert make_png(tagged) == make_png(image)
    assert tagged.info["comment"] == "hello"


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK"])
def test_every_mode_can_be_stored(mode: str) -> None:
    assert read_metadata(make_png(Image.new(mode, (8, 8))))["digest"] == DIGEST


def test_the_record_is_canonical_json_in_an_itxt_chunk() -> None:
    image = Image.open(io.BytesIO(make_png(prompt="ein Käse, 月")))
    text = image.info["seedbed"]
    again = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert text == again
    assert "月" in text
    assert b"iTXtseedbed\0" in make_png()


def test_other_tools_find_the_parameters_they_know() -> None:
    data = make_png(negative_prompt="blurry", model="runwayml/sd")
    assert Image.open(io.BytesIO(data)).info["parameters"] == (
        "a red circle\nNegative prompt: blurry\n"
        "Steps: 50, Sampler: DDIM, CFG scale: 7.5, Seed: 3, Size: 64x48, Model: runwayml/sd"
    )


def test_parameters_leave_out_what_the_job_does_not_say_and_quote_separators() -> None:
    fields = make_fields(scheduler=None, model="C:\\models\\a, b", negative_prompt="")
    assert parameters_text(fields, size=(8, 16)) == (
        "a red circle\n"
        'Steps: 50, CFG scale: 7.5, Seed: 3, Size: 8x16, Model: "C:\\\\models\\\\a, b"'
    )


@pytest.mark.parametrize(
    ("scheduler", "sampler"),
    [("EulerAncestralDiscreteScheduler", "Euler a"), ("FancyNewScheduler", "FancyNew")],
)
def test_a_scheduler_is_shown_by_the_name_other_tools_use(scheduler: str, sampler: str) -> None:
    assert f"Sampler: {sampler}," in parameters_text(make_fields(scheduler=scheduler), size=(8, 8))


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not valid Unicode"):
        make_png(prompt="\ud800")


def test_a_number_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not finite"):
        make_png(guidance_scale=float("nan"))


def test_a_record_is_found_after_the_pixels_too() -> None:
    plain = make_foreign_png()
    text = make_png()
    start = text.index(b"iTXtseedbed") - 4
    length = int.from_bytes(text[start : start + 4], "big")
    moved = plain[:-12] + text[start : start + length + 12] + plain[-12:]
    assert read_metadata(moved)["digest"] == DIGEST


def test_a_record_that_another_program_compressed_or_wrote_as_latin_1_is_read() -> None:
    text = Image.open(io.BytesIO(make_png(prompt="Käse"))).info["seedbed"]
    packed = chunk(b"iTXt", b"seedbed\0\1\0\0\0" + zlib.compress(text.encode()))
    latin = chunk(b"tEXt", b"seedbed\0" + text.encode("latin-1"))
    for body in (packed, latin):
        record = read_metadata(SIGNATURE + body)
        assert isinstance(record["job"], dict)
        assert record["job"]["prompt"] == "Käse"


def test_a_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(make_png())
    assert read_metadata(path)["digest"] == DIGEST


RIGHT = {"version": 1, "digest": DIGEST, "job": {}, "pin": {}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "is not a PNG", id="empty"),
        pytest.param(b"GIF89a....", "is not a PNG", id="gif"),
        pytest.param(SIGNATURE, "has no 'seedbed' record", id="cut after the signature"),
        pytest.param(make_foreign_png(), "has no 'seedbed' record", id="no record"),
        pytest.param(make_foreign_png(seedbed="{"), "is not JSON", id="not json"),
        pytest.param(make_foreign_png(seedbed="[" * 99999), "is not JSON", id="deep"),
        pytest.param(make_foreign_png(seedbed="9" * 9999), "is not JSON", id="long number"),
        pytest.param(make_foreign_png(seedbed="[]"), "not a JSON object", id="list"),
        pytest.param(make_foreign_png(seedbed="{}"), "'version' is missing", id="empty object"),
        pytest.param(
            make_foreign_png(seedbed=json.dumps({**RIGHT, "version": 2})),
            "later Seedbed",
            id="later version",
        ),
        pytest.param(
            make_foreign_png(seedbed=json.dumps({**RIGHT, "version": True})),
            "'version' is missing or wrong",
            id="version true",
        ),
        pytest.param(
            make_foreign_png(seedbed=json.dumps({**RIGHT, "digest": "x"})),
            "'digest' is missing or wrong",
            id="digest",
        ),
        pytest.param(make_foreign_png(seedbed=json.dumps({**RIGHT, "job": []})), "'job'", id="job"),
        pytest.param(
            make_foreign_png(seedbed=json.dumps({**RIGHT, "pin": {"a": float("nan")}})),
            "is not JSON",
            id="nan",
        ),
        pytest.param(
            SIGNATURE + chunk(b"iTXt", b"seedbed\0\1\0\0\0" + zlib.compress(b" " * (1 << 24))),
            "longer than 1 MiB",
            id="zip bomb",
        ),
        pytest.param(
            SIGNATURE + chunk(b"iTXt", b"seedbed\0\0"), "damaged 'seedbed'", id="short itxt"
        ),
        pytest.param(
            SIGNATURE + chunk(b"iTXt", b"seedbed\0\0\0\0\0\xff\xff"), "damaged", id="not utf-8"
        ),
        pytest.param(
            SIGNATURE + chunk(b"iTXt", b"seedbed\0\0\0\0\0{}")[:-1] + b"?", "damaged", id="crc"
        ),
        pytest.param(
            SIGNATURE + struct.pack(">I", 2**32 - 1) + b"iTXt", "has no 'seedbed'", id="huge chunk"
        ),
        pytest.param(
            SIGNATURE + chunk(b"gAMA", b"1234") * 100_001, "has no 'seedbed'", id="many chunks"
        ),
    ],
)
def test_anything_else_is_refused_in_one_sentence(data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        read_metadata(data)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_crash_the_reader(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_metadata(SIGNATURE + data)


@given(st.data())
def test_a_damaged_image_is_read_right_or_refused(data: st.DataObject) -> None:
    image = bytearray(make_png())
    at = data.draw(st.integers(0, len(image) - 1))
    image[at] ^= data.draw(st.integers(1, 255))
    with suppress(InvalidInput):
        assert read_metadata(bytes(image))["job"] == make_fields()


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"absent\.png.*No such file"):
        read_metadata(tmp_path / "absent.png")
    with pytest.raises(InvalidInput, match="directory"):
        read_metadata(tmp_path)
