"""``reproducible`` in a sweep: one value for all of it, in its identity only where it is true."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from PIL import Image

from producer.show import read_origin
from producer.sweep_file import load_sweep
from producer.sweep_text import sweep_text
from shared.errors import InvalidManifest, InvalidSweep
from shared.image_metadata import encode_png
from shared.lanes import lane_key, recipe_key
from shared.manifest import parse_manifest
from shared.schema import manifest_schema
from tests.command_line import caller
from tests.factories import make_job, make_pin, make_sweep


@pytest.mark.parametrize("value", [True, "true", "True", {"fixed": True}, [True], [True, True]])
def test_however_it_is_said_it_is_one_sweep(value: object) -> None:
    sweep = make_sweep(reproducible=value, seed="0..3")

    assert sweep.id == make_sweep(reproducible=True, seed="0..3").id
    assert all(sweep.layout.job(index).reproducible is True for index in range(4))


@pytest.mark.parametrize("value", [False, "false", None])
def test_false_is_as_if_it_were_not_said(value: object) -> None:
    sweep = make_sweep(reproducible=value)

    assert sweep.id == make_sweep().id != make_sweep(reproducible=True).id
    assert "reproducible" not in sweep.manifest.text


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"reproducible": "yes"}, "reproducible 'yes' is not true or false"),
        ({"reproducible": 1}, "reproducible 1 is not true or false"),
        ({"reproducible": [True, False]}, "can't vary in a list: write it once, as reproducible:"),
        ({"zip": {"reproducible": [True, False], "seed": [1, 2]}}, "can't vary in zip"),
        ({"rows": [{"reproducible": True, "seed": 1}]}, "can't vary in a column of rows"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(values: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidSweep) as caught:
        make_sweep(**values)

    assert sentence in str(caught.value)
    assert caught.value.field == "reproducible"


def test_its_jobs_have_a_recipe_of_their_own_and_share_the_lane() -> None:
    plain, exact = make_job(), make_job(reproducible=True)

    assert recipe_key(plain) != recipe_key(exact)
    assert lane_key(plain) == lane_key(exact)


def test_a_manifest_says_it_once_and_for_all() -> None:
    text = make_sweep(reproducible=True, seed="0..3").manifest.text
    data = json.loads(text)
    assert data["fixed"]["reproducible"] is True
    assert parse_manifest(text).text == text
    jsonschema.validate(data, manifest_schema())

    for value in ("true", 1):
        data["fixed"]["reproducible"] = value
        with pytest.raises(InvalidManifest, match=r"fixed\.reproducible.* not true"):
            parse_manifest(json.dumps(data))
    del data["fixed"]["reproducible"]
    data["axes"].append({"fields": ["reproducible"], "columns": [[True, None]]})
    with pytest.raises(InvalidManifest, match="one value for the whole sweep: write it into fixed"):
        parse_manifest(json.dumps(data))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, manifest_schema())


def test_an_image_says_it_and_its_sweep_and_its_command_make_it_again(tmp_path: Path) -> None:
    job, pin = make_job(reproducible=True), make_pin()
    body = encode_png(
        Image.new("RGB", (64, 64)), job=job.to_record(), digest="0" * 64, pin=pin.to_record()
    )
    (tmp_path / "image.png").write_bytes(body)
    origin = read_origin(tmp_path / "image.png")
    file = tmp_path / "again.yaml"
    file.write_text(sweep_text(origin, name="image.png"), encoding="utf-8")

    assert "reproducible: true" in file.read_text(encoding="utf-8")
    assert load_sweep(file).layout.job(0) == job
    assert "reproducible" not in make_job().to_record()
    assert BytesIO(body).read(4) == b"\x89PNG"


def test_the_option_wins_over_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seedbed = caller(capsys)
    file = tmp_path / "sweep.yaml"
    file.write_text("model: demo\nprompt: a cat\nreproducible: true\n", encoding="utf-8")

    ids = [
        json.loads(seedbed("plan", *arguments, "--json").out)["sweep_id"]
        for arguments in (
            [str(file)],
            [str(file), "--no-reproducible"],
            ["--model", "demo", "-p", "a cat", "--name", "sweep", "--reproducible"],
        )
    ]

    assert ids[0] == make_sweep(prompt="a cat", reproducible=True).id == ids[2]
    assert ids[1] == make_sweep(prompt="a cat").id
