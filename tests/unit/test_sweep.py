"""A sweep is read as its author meant it, or refused in one sentence with a remedy."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidSweep
from shared.layout import MAX_BLOCKS
from shared.sweep import Sweep
from tests.factories import make_sweep
from tests.strategies import sweep_values


def jobs_of(sweep: Sweep) -> list[Any]:
    return [sweep.layout.job(index) for index in range(sweep.layout.total)]


def values_of(sweep: Sweep, field: str) -> list[Any]:
    return [getattr(job, field) for job in jobs_of(sweep)]


def test_the_smallest_sweep_is_one_job_with_every_default() -> None:
    sweep = make_sweep()
    assert sweep.manifest.axes == ()
    (job,) = jobs_of(sweep)
    assert (job.seed, job.num_inference_steps, job.guidance_scale) == (0, 50, 7.5)
    assert (job.height, job.width, job.scheduler, job.negative_prompt) == (None,) * 4


def test_axes_multiply_and_the_last_varies_fastest() -> None:
    sweep = make_sweep(prompt=["a", "b"], seed="0..2")
    assert [(job.prompt, job.seed) for job in jobs_of(sweep)] == [
        ("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2),
    ]  # fmt: skip


def test_the_order_of_axes_is_the_order_they_are_written_in() -> None:
    sweep = Sweep.from_mapping({"seed": [1, 2], "model": "demo", "prompt": ["a", "b"]})
    assert sweep.manifest.fields_by_axis == ("seed", "prompt")


def test_a_range_may_stand_inside_a_list() -> None:
    assert values_of(make_sweep(seed=["0..2", 7, "10..30..10"]), "seed") == [0, 1, 2, 7, 10, 20, 30]


def test_repeated_values_are_dropped_and_mentioned() -> None:
    sweep = make_sweep(seed=[1, 1.0, "1", 2], guidance_scale=[1, 1], prompt=["a", "A", "a"])
    assert sweep.layout.total == 4
    assert sweep.notes == (
        "prompt: 1 repeated value dropped, 2 kept",
        "seed: 2 repeated values dropped, 2 kept",
        "guidance_scale: 1 repeated value dropped, 1 kept",
    )


def test_null_and_the_empty_text_are_two_values() -> None:
    assert values_of(make_sweep(negative_prompt=[None, "", None]), "negative_prompt") == [None, ""]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"seed": 5}, {"seed": 5.0}),
        ({"seed": 5}, {"seed": [5]}),
        ({"seed": 5}, {"seed": "5..5"}),
        ({"seed": [0, 1, 2]}, {"seed": "0..2"}),
        ({"seed": range(3)}, {"seed": "0..2"}),
        ({"seed": range(0, 9, 4)}, {"seed": "0..11..4"}),
        ({"seed": [3, 7]}, {"seed": "3..7..4"}),
        ({"seed": ["0..2", "3..4"]}, {"seed": "0..4"}),
        ({"seed": 4, "num_images_per_prompt": 3}, {"seed": "4..6"}),
        ({"guidance_scale": -0.0}, {"guidance_scale": 0}),
        ({"guidance_scale": [1, 2]}, {"guidance_scale": "1..2"}),
        ({"guidance_scale": "7.50"}, {}),
        ({"num_inference_steps": 50, "height": None}, {}),
        ({"output": {"format": "png"}}, {}),
        ({"reuse": "True"}, {"reuse": True}),
        ({"priority": 5}, {"weight": 2}),
    ],
)
def test_one_sweep_has_one_id_however_it_is_written(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert make_sweep(**one).id == make_sweep(**other).id


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"seed": 1},
        {"negative_prompt": ""},
        {"guidance_scale": 7.500000000000001},
        {"prompt": "a red circle "},
        {"height": 512},
        {"reuse": False},
        {"output": {"key": "{digest}.png"}},
    ],
)
def test_another_sweep_has_another_id(change: dict[str, Any]) -> None:
    assert make_sweep(**change).id != make_sweep().id


def test_composed_and_decomposed_letters_are_two_prompts() -> None:
    assert make_sweep(prompt=["caf\u00e9", "cafe\u0301"]).layout.total == 2


def test_the_id_is_the_slug_of_the_name_and_twelve_digits() -> None:
    sweep = make_sweep(name="My Shapes_v1.0")
    assert sweep.id == f"my-shapes-v1-0-{sweep.manifest.digest[:12]}"


@pytest.mark.parametrize(
    ("seed", "repeat", "seeds"),
    [
        (None, 3, [0, 1, 2]),
        (4, 3, [4, 5, 6]),
        ([4, 10], 2, [4, 5, 10, 11]),
        ("0..4..2", 2, [0, 1, 2, 3, 4, 5]),
        ("0..4..2", 3, [0, 1, 2, 3, 4, 5, 6]),
        ("0..20..10", 2, [0, 1, 10, 11, 20, 21]),
        ([5, 3], 3, [5, 6, 7, 3, 4]),
        ([5, 3], "1", [5, 3]),
        (2**63 - 3, 3.0, [2**63 - 3, 2**63 - 2, 2**63 - 1]),
    ],
)
def test_images_per_prompt_are_consecutive_seeds(seed: Any, repeat: Any, seeds: list[int]) -> None:
    given_seed = {} if seed is None else {"seed": seed}
    assert values_of(make_sweep(**given_seed, num_images_per_prompt=repeat), "seed") == seeds


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=5)
    | st.builds(range, st.just(0), st.integers(1, 20), st.integers(1, 5)),
    st.integers(1, 5),
)
def test_any_seeds_are_each_followed_by_the_next_ones(seeds: Any, repeat: int) -> None:
    wanted = dict.fromkeys(seed + extra for seed in seeds for extra in range(repeat))
    assert values_of(make_sweep(seed=seeds, num_images_per_prompt=repeat), "seed") == list(wanted)


def test_images_per_prompt_keep_the_place_of_the_seeds_axis() -> None:
    sweep = make_sweep(seed=[1, 5], guidance_scale=[2, 3], num_images_per_prompt=2)
    assert sweep.manifest.fields_by_axis == ("seed", "guidance_scale")
    assert make_sweep(guidance_scale=[2, 3], num_images_per_prompt=2).manifest.fields_by_axis == (
        "guidance_scale",
        "seed",
    )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"sed": 5}, "'sed' is not a field: did you mean 'seed'?"),
        ({"guidance-scale": 5}, "'guidance-scale' is not a field: did you mean 'guidance_scale'?"),
        ({"steps": 5}, "'steps' is not a field: did you mean 'num_inference_steps'?"),
        ({"seed": []}, "seed is an empty list: give at least one value"),
        ({"seed": range(0)}, "seed is an empty range: give at least one value"),
        ({"seed": {"from": 1}}, "seed {'from': 1} is a mapping: give a value, a list or a range"),
        ({"seed": [[1]]}, "seed has [1] inside a list: values are plain"),
        ({"seed": {1, 2}}, "seed {1, 2} is not a whole number from 0 to 2**63-1"),
        ({"seed": 10**5000}, "seed a whole number of about 5001 digits is not a whole number"),
        ({"prompt": 10**5000}, "prompt a whole number of about 5001 digits is not a text"),
        ({"height": [64, 70]}, "height 70 is not a multiple of 8: write 64 or 72"),
        ({"name": ""}, "name '' is not a name: 1 to 64 letters"),
        ({"name": "../x"}, "name '../x' is not a name"),
        ({"name": "x" * 65}, "name 'xxxx"),
        ({"name": "a\n"}, "name 'a\\n' is not a name"),
        ({"name": None}, "name None is not a name"),
        ({"reuse": "no"}, "reuse 'no' is not true or false"),
        ({"reuse": 1}, "reuse 1 is not true or false"),
        ({"priority": 101}, "priority 101 is not a whole number from -100 to 100"),
        ({"priority": 1.5}, "priority 1.5 is not a whole number from -100 to 100"),
        ({"priority": True}, "priority True is not a whole number"),
        ({"weight": 0}, "weight 0 is not a number from 0.001 to 1000"),
        ({"weight": math.nan}, "weight nan is not a number"),
        ({"weight": "1_0"}, "weight '1_0' is not a number"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt 0 is not a whole number from 1 to"),
        ({"num_images_per_prompt": 10**5000}, "num_images_per_prompt a whole number of about"),
        ({"num_images_per_prompt": 2, "seed": 2**63 - 1}, "seed 9223372036854775808 is not"),
        (
            {"num_images_per_prompt": 2, "seed": [0, 2**63 - 1, 1]},
            "seed 9223372036854775808 is not a whole number",
        ),
        (
            {"num_images_per_prompt": 10, "seed": "0..99999999..100"},
            "num_images_per_prompt 10 makes 10,000,000 seeds of 1,000,000",
        ),
        ({"output": "png"}, "output 'png' is not a mapping: write output: {format: png}"),
        ({"output": {"fmt": "png"}}, "output 'fmt' is not a field: did you mean 'format'?"),
        ({"output": {"format": "gif"}}, "output.format 'gif' is not written: use png"),
        ({"output": {"format": []}}, "output.format [] is not written: use png"),
        ({"output": {"key": 5}}, "output.key 5 is not a text"),
        ({"output": {"key": "x.png"}}, "output.key 'x.png' has no {digest}"),
        ({"seed": ["0..1000000", 5]}, "seed lists over 1,000,000 values"),
        (
            {"seed": "0..999999999", "guidance_scale": [1, 2]},
            "the sweep has 2,000,000,000 jobs (1,000,000,000 seed x 2 guidance_scale): at most "
            "1,000,000,000 are allowed, split it into several sweeps",
        ),
        (
            {"num_inference_steps": "1..1000", "guidance_scale": [1, 2], "eta": "0..0.2..0.1"},
            "the sweep has 6,000 combinations of weights, size and sampling from "
            "num_inference_steps (1,000), guidance_scale (2), eta (3): at most 4,096 are allowed",
        ),
    ],
)
def test_a_sweep_that_cannot_be_says_why(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidSweep) as caught:
        make_sweep(**values)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model", "prompt"])
def test_a_missing_field_is_named(name: str) -> None:
    values = {"model": "demo", "prompt": "x"}
    del values[name]
    with pytest.raises(InvalidSweep, match=f"{name} is missing") as caught:
        Sweep.from_mapping(values)
    assert caught.value.field == name


def test_just_enough_blocks_are_allowed() -> None:
    sizes = [8 * number for number in range(1, 65)]
    assert len(make_sweep(height=sizes, width=sizes).layout.blocks) == MAX_BLOCKS


def test_a_list_of_long_prompts_leaves_the_manifest_short() -> None:
    manifest = make_sweep(prompt=[f"{number:01000}" for number in range(17_000)]).manifest
    assert len(manifest.text) < 2_500
    assert manifest.axes[0].columns[0][16_999] == f"{16_999:01000}"


@given(sweep_values())
def test_whatever_is_valid_alone_is_valid_together(values: dict[str, Any]) -> None:
    sweep = Sweep.from_mapping(values)
    lengths = {
        name: len(dict.fromkeys(value)) if isinstance(value, list | range) else 1
        for name, value in values.items()
    }
    assert sweep.layout.total == math.prod(lengths.values())
    assert sweep.manifest.fields_by_axis == tuple(n for n, count in lengths.items() if count > 1)


def test_a_sweep_costs_what_its_description_costs() -> None:
    started = time.process_time()
    sweep = make_sweep(prompt=["a", "b"], guidance_scale=[1, 4, 7.5, 9, 11], seed="0..99999999")
    assert sweep.layout.total == 1_000_000_000
    assert [block.size for block in sweep.layout.blocks] == [200_000_000, 800_000_000]
    assert len(sweep.manifest.text) < 700
    assert sweep.layout.job(999_999_999).seed == 99_999_999
    assert time.process_time() - started < 5  # not a figure: only that nothing is enumerated
