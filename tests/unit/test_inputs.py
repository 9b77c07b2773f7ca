"""Input files: named by their content, checked before they are decoded, refused in a sentence."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest

from producer.absolute_models import absolute_input
from producer.plan_warnings import warnings_of
from producer.sweep_file import load_sweep
from shared.errors import InvalidInput, InvalidSweep
from shared.input_checks import MAX_INPUT_BYTES, check_input, noise_shape, open_image, upright_size
from shared.input_files import InputFiles, input_key
from shared.sweep import Sweep
from tests.factories import make_sweep
from tests.input_files import huge_png, noise_bytes, picture_bytes, write_picture


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two pictures, one of them twice, masks and noise; the current one."""
    monkeypatch.chdir(tmp_path)
    write_picture(tmp_path / "a.png")
    write_picture(tmp_path / "same.png")
    write_picture(tmp_path / "b.png", colour="blue")
    write_picture(tmp_path / "mask.png", colour="white")
    write_picture(tmp_path / "small.png", (32, 64), colour="white")
    (tmp_path / "noise.safetensors").write_bytes(noise_bytes())
    return tmp_path


def key_of(path: Path) -> str:
    return f"inputs/{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_a_path_becomes_the_key_of_its_content(folder: Path) -> None:
    sweep = make_sweep(init_image="a.png", latents=None)
    assert sweep.layout.job(0).init_image == key_of(folder / "a.png")
    ((key, file),) = sweep.inputs.items()
    assert (key, file.path) == (key_of(folder / "a.png"), Path("a.png"))
    assert file.checked is not None
    assert (file.checked.content_type, file.checked.size) == ("image/png", (64, 64))


def test_the_same_content_under_two_names_is_the_same_image(folder: Path) -> None:
    assert make_sweep(init_image="a.png").id == make_sweep(init_image="same.png").id
    both = make_sweep(init_image=["a.png", "same.png", "b.png"])
    assert both.layout.total == 2
    assert both.notes == ("init_image: 1 repeated value dropped, 2 kept",)


def test_inputs_may_stand_wherever_a_value_may(folder: Path) -> None:
    a, b, mask = (key_of(folder / name) for name in ("a.png", "b.png", "mask.png"))
    (folder / "sweeps").mkdir()
    (folder / "sweeps" / "images.txt").write_text("../a.png\n../b.png\n")
    (folder / "sweeps" / "jobs.csv").write_text("init_image,seed\n../a.png,1\n,2\n../b.png,3\n")
    (folder / "sweeps" / "axis.yaml").write_text(
        "model: demo\nprompt: x\ninit_image: [../a.png, ../b.png, null]\n"
    )
    (folder / "sweeps" / "lines.yaml").write_text(
        "model: demo\nprompt: x\ninit_image: {file: images.txt}\nmask_image: {fixed: ../mask.png}\n"
    )
    (folder / "sweeps" / "rows.yaml").write_text("model: demo\nprompt: x\nrows: jobs.csv\n")
    (folder / "sweeps" / "zip.yaml").write_text(
        "model: demo\nprompt: x\nzip: {init_image: [../a.png, ../b.png], strength: [0.4, 0.6]}\n"
    )

    def starts(name: str) -> list[Any]:
        sweep = load_sweep(folder / "sweeps" / f"{name}.yaml")
        jobs = [sweep.layout.job(index) for index in range(sweep.layout.total)]
        assert {job.init_image for job in jobs} - {None} <= set(sweep.inputs)
        return [(job.init_image, job.mask_image, job.strength) for job in jobs]

    assert starts("axis") == [(a, None, None), (b, None, None), (None, None, None)]
    assert starts("lines") == [(a, mask, None), (b, mask, None)]
    assert starts("rows") == [(a, None, None), (None, None, None), (b, None, None)]
    assert starts("zip") == [(a, None, 0.4), (b, None, 0.6)]


def test_a_key_of_the_buckets_stays(folder: Path) -> None:
    key = key_of(folder / "a.png")
    sweep = make_sweep(init_image=key)
    assert sweep.id == make_sweep(init_image="a.png").id
    assert sweep.inputs[key].path is None
    assert absolute_input(key, folder) == key
    assert absolute_input("a.png", folder) == str(folder / "a.png")


def test_with_and_without_an_image_are_two_blocks(folder: Path) -> None:
    sweep = make_sweep(init_image=[None, "a.png", "b.png"], strength=[0.3, 0.6], seed=range(4))
    blocks = {(block.lane, block.recipe): 0 for block in sweep.layout.blocks}
    for block in sweep.layout.blocks:
        blocks[block.lane, block.recipe] += block.size
    assert sorted(blocks.values()) == [8, 8, 8]
    assert len({lane for lane, _ in blocks}) == 2
    assert warnings_of(sweep.manifest) == (
        "strength can't act where init_image is null: its 2 values make the same image there",
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mask_image": "mask.png"}, "mask_image needs an init_image: give one, or leave"),
        ({"init_image": [None, "a.png"], "mask_image": "mask.png"}, "mask_image needs an init"),
        ({"strength": 0.5}, "strength needs an init_image: give one, or leave strength out (null)"),
        ({"strength": [0.5, None], "init_image": None}, "strength needs an init_image"),
        (
            {"init_image": "a.png", "latents": "noise.safetensors"},
            "latents are the whole starting noise, but with an init_image the pipeline starts",
        ),
        (
            {"init_image": "a.png", "strength": [0.01, 0.5], "num_inference_steps": 50},
            "strength 0.01 of 50 num_inference_steps leaves no step to run: raise one of them",
        ),
        (
            {"init_image": "a.png", "mask_image": "small.png"},
            "mask_image 'small.png' is 32 x 64 pixels but init_image 'a.png' 64 x 64: "
            "a mask has the size of its init image",
        ),
        (
            {"init_image": ["a.png", "b.png"], "mask_image": ["mask.png", "small.png"]},
            "mask_image 'small.png' is 32 x 64 pixels but init_image",
        ),
        (
            {"zip": {"init_image": ["a.png", "b.png"], "mask_image": ["mask.png", "small.png"]}},
            "mask_image 'small.png' is 32 x 64 pixels but init_image 'b.png' 64 x 64",
        ),
        ({"init_image": "no.png"}, "init_image 'no.png' does not exist: check its path"),
        ({"init_image": "."}, "init_image '.' is a folder: name a file in it"),
        ({"init_image": ""}, "init_image is empty: give a file's path, or null"),
        ({"init_image": 5}, "init_image 5 is not a file's path"),
        (
            {"init_image": "noise.safetensors"},
            "init_image 'noise.safetensors' is not an image: give a PNG, JPEG or WebP file",
        ),
        ({"latents": "a.png"}, "latents 'a.png' is not a safetensors file with noise: write"),
        ({"init_image": "a" * 300}, "init_image '..." + "a" * 120 + "' can't be read: "),
    ],
)
def test_a_mistake_is_told_in_one_sentence(folder: Path, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSweep) as refused:
        make_sweep(**fields)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_masks_that_fit_their_own_image_may_differ_from_the_others(folder: Path) -> None:
    write_picture(folder / "c.png", (32, 64))
    pairs = {"init_image": ["a.png", "c.png"], "mask_image": ["mask.png", "small.png"]}
    assert make_sweep(zip=pairs).layout.total == 2


def test_faults_of_a_files_rows_are_told_together(folder: Path) -> None:
    (folder / "jobs.csv").write_text("init_image,seed\na.png,1\nno.png,2\nnoise.safetensors,3\n")
    (folder / "sweep.yaml").write_text("model: demo\nprompt: x\nrows: jobs.csv\n")
    with pytest.raises(InvalidSweep) as refused:
        load_sweep(folder / "sweep.yaml")
    said = str(refused.value)
    assert said.startswith("jobs.csv has 2 faults: row 2: init_image '")
    assert "no.png' does not exist: check its path; row 3: init_image '" in said


def test_a_file_is_read_once_however_often_it_is_named(folder: Path) -> None:
    files = InputFiles()
    first = files.key("init_image", "a.png")
    (folder / "a.png").unlink()
    assert files.key("init_image", "a.png") == first


@pytest.mark.parametrize(
    ("field", "body", "said"),
    [
        ("init_image", b"", "is not an image: give a PNG, JPEG or WebP file"),
        ("init_image", b"GIF89a" + b"\0" * 50, "is not an image: give a PNG, JPEG or WebP file"),
        ("init_image", b"%!PS-Adobe-3.0 EPSF-3.0\n", "is not an image: give a PNG, JPEG or WebP"),
        ("mask_image", huge_png(8192, 4097), "has 8192 x 4097 = 33,562,624 pixels: at most"),
        ("mask_image", huge_png(10_000, 10_000), "has far more pixels than the 33,554,432 allowed"),
        ("mask_image", huge_png(60_000, 60_000), "has far more pixels than the 33,554,432 allowed"),
        (
            "init_image",
            b"x" * (MAX_INPUT_BYTES + 1),
            "has 67,108,865 bytes: at most 67,108,864 are",
        ),
        ("init_image", b"\xff\xd8\xff\xe0" + b"\0" * 60, "is not an image: give a PNG"),
        ("init_image", picture_bytes()[:40], "is not an image: give a PNG"),
        ("latents", pickle.dumps([1]), "is a pickle, which can run code when it is loaded: save"),
        ("latents", b"PK\x03\x04rest", "is a pickle, which can run code when it is loaded: save"),
        ("latents", b"", "is not a safetensors file with noise: write it with"),
        ("latents", b"\xff" * 100, "is not a safetensors file with noise: write it with"),
        ("latents", noise_bytes()[:-1], "is cut off: save it again"),
        ("latents", noise_bytes(names=("a", "b")), "has several tensors and none called 'latents'"),
        ("latents", noise_bytes(names=()), "is not a safetensors file with noise"),
        ("latents", noise_bytes(kind="F64"), "has numbers of type 'F64': noise is float16, bfloat"),
        ("latents", noise_bytes(kind="I32"), "has numbers of type 'I32': noise is float16, bfloat"),
    ],
)
def test_what_no_input_can_be_is_told_from_its_head(field: str, body: bytes, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_input(field, body)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(("turned", "size"), [(1, (40, 24)), (3, (40, 24)), (6, (24, 40))])
def test_an_images_size_is_that_of_the_upright_one(
    form: str, turned: int, size: tuple[int, int]
) -> None:
    body = picture_bytes((40, 24), form=form, turned=turned)
    assert upright_size(open_image(body)) == size
    assert check_input("init_image", body).content_type == f"image/{form.lower()}"


def test_noise_is_told_by_its_name_and_shape() -> None:
    assert noise_shape(noise_bytes((1, 4, 8, 8))) == ("latents", (1, 4, 8, 8))
    assert noise_shape(noise_bytes(names=("start",))) == ("start", (4, 8, 8))
    assert noise_shape(noise_bytes(names=("other", "latents"), kind="BF16"))[0] == "latents"


def test_a_sweep_that_names_no_input_has_none() -> None:
    assert make_sweep().inputs == {}
    assert Sweep.define(model="demo", prompt="inputs/" + "0" * 64).inputs == {}


def test_a_key_is_the_hash_of_the_bytes() -> None:
    assert input_key(b"") == (
        "inputs/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
