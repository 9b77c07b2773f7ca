"""Input images that would take long, or much memory: refused by their head, or read at once."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared.errors import InvalidInput
from shared.image_metadata import encode_png, read_metadata
from shared.input_checks import MAX_INPUT_PIXELS, check_input
from shared.slow_images import MAX_JPEG_SCANS, MAX_PNG_CHUNKS, MAX_PNG_NOTES
from worker.inputs import read_image

MOST_SECONDS = 10.0
"""On a busy machine; each takes less than one."""
MOST_BYTES = 160 * 2**20
BOMB = zlib.compress(b"a" * 100_000_000, 9)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int = 8, height: int = 8, *, before: bytes = b"", after: bytes = b"", pixels: bytes = b""
) -> bytes:
    """A PNG of black pixels, with further chunks around them."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = pixels or zlib.compress(b"\0" * (width * 3 + 1) * height)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + before
        + chunk(b"IDAT", pixels)
        + after
        + chunk(b"IEND", b"")
    )


def saved(form: str, frames: int, **options: object) -> bytes:
    file = io.BytesIO()
    first, *others = (Image.new("RGB", (8, 8), (number, 0, 0)) for number in range(frames))
    first.save(file, form, save_all=True, append_images=others, **options)
    return file.getvalue()


def jpeg(scans: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", progressive=True)
    parts = file.getvalue()[:-2].split(b"\xff\xda")
    return b"\xff\xda".join([*parts, *[parts[-1]] * (scans - len(parts) + 1)]) + b"\xff\xd9"


NOTE = chunk(b"tEXt", b"k\0x")
TEXTS = b"".join(
    chunk(b"zTXt", b"k%d\0\0" % n + zlib.compress(b"a" * 1_000_000)) for n in range(100)
)
REFUSED: dict[str, Callable[[], bytes]] = {
    "pixels": lambda: png(60_000, 60_000, pixels=b"x"),
    "a line": lambda: png(2**31 - 1, 1, pixels=b"x"),
    "just too large": lambda: png(8192, 4097, pixels=b"x"),
    "a text before": lambda: png(before=chunk(b"zTXt", b"k\0\0" + BOMB)),
    "a text behind": lambda: png(after=chunk(b"zTXt", b"k\0\0" + BOMB)),
    "an international text": lambda: png(before=chunk(b"iTXt", b"k\0\1\0\0\0" + BOMB)),
    "a profile": lambda: png(before=chunk(b"iCCP", b"k\0\0" + BOMB)),
    "a hundred texts": lambda: png(before=TEXTS),
    "many notes": lambda: png(before=NOTE * (MAX_PNG_NOTES + 1)),
    "a million notes": lambda: png(after=NOTE * 1_000_000),
    "many pieces": lambda: png(before=chunk(b"IDAT", b"") * (MAX_PNG_CHUNKS + 1)),
    "scans": lambda: jpeg(MAX_JPEG_SCANS + 1),
    "a GIF": lambda: saved("GIF", 2),
    "a TIFF": lambda: saved("TIFF", 2),
    "nothing": lambda: b"",
}
READ: dict[str, Callable[[], bytes]] = {
    "plain": png,
    "notes": lambda: png(before=NOTE * 100, after=NOTE * 100),
    "an animated PNG": lambda: saved("PNG", 200),
    "an animated WebP": lambda: saved("WEBP", 200),
    "several JPEGs in one file": lambda: saved("MPO", 3),
    "a progressive JPEG": lambda: jpeg(10),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bomb_is_refused_in_bounded_time_and_memory(name: str) -> None:
    body = REFUSED[name]()
    started = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput) as found:
            read_image(body)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
    assert time.monotonic() - started < MOST_SECONDS
    assert len(str(found.value)) < 300


def test_pixels_are_counted_before_any_is_decoded() -> None:
    for width, height in ((60_000, 60_000), (8192, 4097)):
        with pytest.raises(InvalidInput, match=f"{MAX_INPUT_PIXELS:,}"):
            check_input("init_image", png(width, height, pixels=b"there are none"))
    assert check_input("init_image", png(8192, 4096, pixels=b"x")).size == (8192, 4096)


@pytest.mark.parametrize("name", READ)
def test_of_several_pictures_the_first_is_read(name: str) -> None:
    body = READ[name]()
    assert check_input("init_image", body).size == (8, 8)
    image = read_image(body)
    assert (image.mode, image.size) == ("RGB", (8, 8))
    assert max(image.getpixel((0, 0))) < 8  # type: ignore[arg-type]


@given(st.sampled_from(sorted(READ)), st.data())
def test_a_damaged_image_is_read_or_refused(name: str, data: st.DataObject) -> None:
    body = bytearray(READ[name]())
    for _ in range(data.draw(st.integers(1, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(body[: data.draw(st.integers(0, len(body)))])
    for field in ("init_image", "latents"):
        try:
            check_input(field, cut)
        except InvalidInput:
            continue
    try:
        assert read_image(cut).mode == "RGB"
    except InvalidInput:
        return


RECORD = encode_png(
    Image.new("RGB", (8, 8)), job={"prompt": "a cat", "seed": 1}, digest="0" * 64, pin={"a": 1}
)
json_texts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
).map(repr)


@given(
    st.text(max_size=50)
    | json_texts
    | st.integers(1, 100_000).map(lambda depth: "[" * depth)
    | st.integers(1, 100_000).map(lambda depth: '{"a":' * depth),
    st.sampled_from([b"tEXt", b"iTXt", b"zTXt"]),
)
def test_any_record_in_an_image_is_read_or_refused(text: str, kind: bytes) -> None:
    head = {b"tEXt": b"\0", b"iTXt": b"\0\0\0\0\0", b"zTXt": b"\0\0"}[kind]
    body = png(before=chunk(kind, b"seedbed" + head + text.encode(errors="replace")))
    with pytest.raises(InvalidInput):
        read_metadata(body)


@given(st.data())
def test_a_damaged_record_is_read_or_refused(data: st.DataObject) -> None:
    body = bytearray(RECORD)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert set(read_metadata(bytes(body))) >= {"digest", "job", "pin", "version"}
    except InvalidInput:
        return
