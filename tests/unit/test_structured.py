"""Mappings and lists as values: read however they are written, one text for one value."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest

from producer.show import read_origin
from producer.sweep_file import load_sweep
from producer.sweep_text import sweep_text
from shared.errors import InvalidSweep
from shared.field_values import check_value
from shared.image_metadata import encode_png
from shared.structured import MAX_LORAS, MAX_SETTINGS, MAX_STEPS, lora_weights
from shared.sweep import Sweep
from tests.factories import make_job, make_sweep


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("scheduler_config", {"b": 2.0, "a": True}, '{"a":true,"b":2}'),
        ("scheduler_config", {"b": "2", "a": "true"}, '{"a":true,"b":2}'),
        ("scheduler_config", "b=2.0, a=true", '{"a":true,"b":2}'),
        ("scheduler_config", '{"b": 2, "a": true}', '{"a":true,"b":2}'),
        ("scheduler_config", {"algorithm_type": "sde-dpmsolver++"}, None),
        ("scheduler_config", {"x": None, "y": 1e-4}, '{"x":null,"y":0.0001}'),
        ("scheduler_config", {}, ""),
        ("scheduler_config", "null", ""),
        ("sigmas", [14.6, 3, "0.7", 0.0], "[14.6,3,0.7,0]"),
        ("sigmas", "14.6, 3,0.7,0", "[14.6,3,0.7,0]"),
        ("sigmas", "[14.6, 3, 0.7, 0]", "[14.6,3,0.7,0]"),
        ("timesteps", (999, 499), "[999,499]"),
        ("timesteps", "[999]", "[999]"),
        ("loras", {"name": "owner/x"}, '[{"name":"owner/x","weight":1}]'),
        ("loras", "owner/x", '[{"name":"owner/x","weight":1}]'),
        (
            "loras",
            [{"name": "b", "weight": "0.5"}, {"weight": -1, "name": "a"}],
            '[{"name":"a","weight":-1},{"name":"b","weight":0.5}]',
        ),
        ("loras", [], ""),
    ],
)
def test_a_value_has_one_text(name: str, value: object, text: str | None) -> None:
    read = check_value(name, value)
    wanted = text if text is not None else json.dumps(value, separators=(",", ":"))
    assert read == (wanted or None)
    assert check_value(name, read) == read


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("scheduler_config", 5, "is not a mapping of settings: write {use_karras_sigmas: true}"),
        ("scheduler_config", "karras", "is not a mapping of settings: write name=value,name=value"),
        ("scheduler_config", "a=1,a=2", "has 'a' twice: keep one"),
        ("scheduler_config", '{"a":1,"a":2}', "has 'a' twice: keep one"),
        ("scheduler_config", "{", "is not JSON"),
        ("scheduler_config", '{"a": NaN}', "is not JSON (NaN is no number)"),
        ("scheduler_config", {"a": [1]}, "has a with a list or a mapping: values are plain"),
        ("scheduler_config", {"a b": 1}, "has 'a b', which is no setting's name"),
        ("scheduler_config", {"a": float("inf")}, "has a with a number that is not finite"),
        ("scheduler_config", {"a": 10**9}, "has a with a number beyond 100,000"),
        ("scheduler_config", {"a": "x" * 201}, "has a text for a that is no word of at most 200"),
        ("scheduler_config", {f"a{n}": n for n in range(99)}, "has 99 settings: at most 32"),
        ("sigmas", 14.6, "is not a list of sigmas: write sigmas: {fixed: [14.6, 3.2, 0.7, 0]}"),
        ("sigmas", "14.6", "is not a list of sigmas: write sigmas: {fixed:"),
        ("sigmas", [], "has 0 entries: 1 to 1,001 are allowed"),
        ("sigmas", [1] * 1002, "has 1,002 entries: 1 to 1,001 are allowed"),
        ("sigmas", [14.6, "x"], "has 'x', which is not a number from 0 to 10,000"),
        ("sigmas", [3, 3], "has 3 after 3: write them falling"),
        ("timesteps", [1001], "has '1001', which is not a number from 0 to 1,000"),
        ("loras", 5, "is not a list of LoRAs: write {fixed: [{name: owner/lora, weight: 0.8}]}"),
        ("loras", [{"nme": "x"}], "has a LoRA that is not {name: owner/lora, weight: 0.8}"),
        ("loras", ["owner/x"], "has a LoRA that is not {name: owner/lora, weight: 0.8}"),
        ("loras", [{"name": " "}], "has a LoRA whose name is not a hub id, a folder or a file"),
        ("loras", [{"name": "x", "weight": 101}], "has a weight for 'x' that is not from -100"),
        ("loras", [{"name": "x"}, {"name": "x"}], "has 'x' twice: keep one"),
        ("loras", [{"name": str(n)} for n in range(9)], "has 9 LoRAs: at most 8 are allowed"),
    ],
)
def test_what_is_none_is_refused_in_a_sentence(name: str, value: object, why: str) -> None:
    with pytest.raises(InvalidSweep) as caught:
        check_value(name, value)
    message = str(caught.value)
    assert message.startswith(f"{name} ")
    assert why in message
    assert "\n" not in message
    assert caught.value.field == name


def test_bounds_are_those_of_the_messages() -> None:
    assert (MAX_SETTINGS, MAX_STEPS, MAX_LORAS) == (32, 1001, 8)


SIGMAS = "[14.6,3.2,0]"
KARRAS = '{"use_karras_sigmas":true}'


@pytest.mark.parametrize(
    ("yaml", "values"),
    [
        ("sigmas: {fixed: [14.6, 3.2, 0]}", [SIGMAS]),
        ("sigmas: [null, [14.6, 3.2, 0], [9, 0]]", [None, SIGMAS, "[9,0]"]),
        ("sigmas: [[14.6, 3.2, 0]]", [SIGMAS]),
        ("sigmas: null", [None]),
        ("zip: {sigmas: [[14.6, 3.2, 0], [9, 0]], seed: [1, 2]}", [SIGMAS, "[9,0]"]),
        ("rows: [{sigmas: [14.6, 3.2, 0]}, {sigmas: null}]", [SIGMAS, None]),
        ("sigmas: {file: many.jsonl}", [SIGMAS, None]),
        ("rows: some.csv", [SIGMAS, None]),
    ],
)
def test_a_list_is_one_value_where_it_is_wrapped_or_inside_an_axis(
    tmp_path: Any, yaml: str, values: list[str | None]
) -> None:
    (tmp_path / "many.jsonl").write_text('{"sigmas": [14.6, 3.2, 0]}\n{"sigmas": null}\n')
    (tmp_path / "some.csv").write_text('sigmas,seed\n"14.6,3.2,0",1\n,2\n')
    file = tmp_path / "sweep.yaml"
    file.write_text(f"model: demo\nprompt: a\n{yaml}\n")
    layout = load_sweep(file).layout
    assert [layout.job(index).sigmas for index in range(layout.total)] == values


@pytest.mark.parametrize(
    ("yaml", "values"),
    [
        ("scheduler_config: {use_karras_sigmas: true}", [KARRAS]),
        ("scheduler_config: {fixed: {use_karras_sigmas: true}}", [KARRAS]),
        ("scheduler_config: [null, {use_karras_sigmas: true}, {}]", [None, KARRAS]),
        ("scheduler_config: use_karras_sigmas=true", [KARRAS]),
    ],
)
def test_a_mapping_is_a_value_as_it_stands(
    tmp_path: Any, yaml: str, values: list[str | None]
) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(f"model: demo\nprompt: a\n{yaml}\n")
    layout = load_sweep(file).layout
    assert [layout.job(index).scheduler_config for index in range(layout.total)] == values


def test_a_flat_list_of_numbers_is_told_how_to_be_one_value() -> None:
    with pytest.raises(InvalidSweep, match=r"sigmas 14.6 is not a list .* \{fixed: \[14.6"):
        make_sweep(sigmas=[14.6, 3.2, 0])


def test_long_axes_of_lists_go_to_chunks_and_come_back() -> None:
    lists = [[900 - number / 10, 0] for number in range(5_000)]
    sweep = make_sweep(rows=[{"sigmas": item, "seed": n % 3} for n, item in enumerate(lists[:9])])
    assert sweep.layout.job(8).sigmas == "[899.2,0]"
    with pytest.raises(InvalidSweep, match="combinations of sigmas"):
        make_sweep(sigmas=lists)  # each is a recipe


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (
            {"sigmas": {"fixed": [9, 0]}, "timesteps": {"fixed": [9, 0]}},
            "timesteps '[9,0]' and sigmas '[9,0]' both say the steps of one job: keep one",
        ),
        (
            {"sigmas": [None, [9, 0]], "timesteps": [None, [9, 0]]},
            "both say the steps of one job",
        ),
        (
            {"sigmas": {"fixed": [9, 0]}, "scheduler": "DDIMScheduler"},
            "sigmas '[9,0]' can't be given to DDIMScheduler: use one of EDMEulerScheduler, Euler",
        ),
        (
            {"timesteps": [[9, 0], None], "scheduler": ["DDPMScheduler", "PNDMScheduler"]},
            "timesteps '[9,0]' can't be given to PNDMScheduler: use one of CMStoch",
        ),
    ],
)
def test_fields_that_cannot_go_together_are_refused_at_submit(
    values: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidSweep) as caught:
        make_sweep(**values)
    assert why in str(caught.value)


def test_lists_and_counts_may_take_turns() -> None:
    sweep = make_sweep(
        zip={
            "sigmas": [[9, 0], None, None],
            "timesteps": [None, [9, 0], None],
            "scheduler": ["EulerDiscreteScheduler", "EulerDiscreteScheduler", "PNDMScheduler"],
        }
    )
    assert [block.cost for block in sweep.layout.blocks] == [4, 4, 100]


def test_an_image_says_how_it_was_sampled_and_can_be_made_again(tmp_path: Any) -> None:
    from PIL import Image

    job = make_job(
        scheduler="EulerDiscreteScheduler",
        scheduler_config=KARRAS,
        sigmas=SIGMAS,
        loras='[{"name":"owner/x","weight":0.5}]',
        vae="owner/vae",
        clip_skip=2,
        safety_checker="off",
    )
    body = encode_png(Image.new("RGB", (8, 8)), job=job.to_values(), digest="0" * 64)

    parameters = Image.open(BytesIO(body)).text["parameters"]
    origin = read_origin(body)
    (tmp_path / "again.yaml").write_text(sweep_text(origin, name="x.png"))
    assert f"sigmas: {{fixed: {SIGMAS}}}" in (tmp_path / "again.yaml").read_text()
    again = load_sweep(tmp_path / "again.yaml").layout.job(0)

    assert parameters.splitlines()[1] == (
        "Steps: 50, Sampler: Euler, Schedule type: Karras, CFG scale: 7.5, Seed: 0, Size: 8x8, "
        'Model: demo, VAE: owner/vae, Clip skip: 2, Sigmas: "[14.6,3.2,0]", '
        'Loras: "owner/x: 0.5"'
    )
    assert again == job
    assert Sweep.define(**origin.job).layout.job(0) == job
    assert f"--sigmas '{SIGMAS}'" in origin.command


def test_weights_of_loras_are_read_back() -> None:
    text = check_value("loras", [{"name": "b", "weight": 0.5}, {"name": "a"}])
    assert lora_weights(str(text)) == {"a": 1, "b": 0.5}
    assert lora_weights(None) == {}
