"""Indices and positions are one set of jobs in two orders; blocks are whole; nothing is listed."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.axis import Axis
from shared.errors import InvalidSweep
from shared.fields import FIELDS
from shared.lanes import cost, lane_key, recipe_key, weights_key
from shared.layout import MAX_BLOCKS, Layout
from shared.manifest import Manifest
from tests.factories import make_sweep
from tests.strategies import sweeps
from tests.tables import with_tables


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Of small sweeps of every shape, some with fields that vary together, some in chunks."""
    manifest: Manifest = draw(sweeps()).manifest
    if len(manifest.axes) > 1 and draw(st.booleans()):
        first, second, *others = manifest.axes
        length = min(len(first), len(second))
        together = Axis(
            fields=(*first.fields, *second.fields),
            columns=(first.columns[0][:length], second.columns[0][:length]),
        )
        manifest = replace(manifest, axes=(together, *others))
    if draw(st.booleans()):
        manifest = with_tables(manifest, size=draw(st.integers(1, 5)))
    return Layout(manifest)


@given(layouts())
def test_jobs_are_in_the_order_of_nested_loops_over_the_axes(layout: Layout) -> None:
    manifest = layout.manifest
    loops = itertools.product(*(range(len(axis)) for axis in manifest.axes))
    count = 0
    for index, numbers in enumerate(loops):
        wanted = dict(manifest.fixed)
        for axis, number in zip(manifest.axes, numbers, strict=True):
            wanted |= axis.values(number)
        assert asdict(layout.job(index)) == wanted
        assert layout.digits(index) == list(numbers)
        count += 1
    assert count == layout.total


@given(layouts())
def test_positions_and_indices_are_inverse(layout: Layout) -> None:
    positions = [layout.position_of(index) for index in range(layout.total)]
    assert sorted(positions) == list(range(layout.total))
    for index, position in enumerate(positions):
        assert layout.index_of(position) == index
        assert layout.job_at(position) == layout.job(index)


@given(layouts())
def test_blocks_are_contiguous_and_cover_the_sweep(layout: Layout) -> None:
    offset = 0
    for block in layout.blocks:
        assert block.offset == offset
        assert block.size > 0
        offset += block.size
    assert offset == layout.total


@given(layouts())
def test_a_block_has_one_model_one_lane_one_recipe_and_one_cost(layout: Layout) -> None:
    for block in layout.blocks:
        for position in range(block.offset, block.offset + block.size):
            job = layout.job_at(position)
            assert layout.block_of(position) == block
            assert weights_key(job) == block.model
            assert lane_key(job) == block.lane
            assert recipe_key(job) == block.recipe
            assert cost(job) == block.cost


@given(layouts())
def test_within_a_block_jobs_keep_the_users_order(layout: Layout) -> None:
    for block in layout.blocks:
        indices = [layout.index_of(block.offset + rank) for rank in range(block.size)]
        assert indices == sorted(indices)


@given(sweeps())
def test_a_sweep_without_repetition_has_no_job_twice(sweep: object) -> None:
    layout = sweep.layout  # type: ignore[attr-defined]
    jobs = {layout.job(index) for index in range(layout.total)}
    assert len(jobs) == layout.total


def test_guidance_makes_two_groups_off_and_on() -> None:
    layout = make_sweep(guidance_scale=[0, 7.5, 1, 1.0001, 4], seed=[1, 2]).layout
    sizes = [(block.size, layout.job_at(block.offset).guided) for block in layout.blocks]
    assert sizes == [(4, False), (6, True)]


@pytest.mark.parametrize("name", [name for name, f in FIELDS.items() if f.decides == "row"])
def test_what_varies_inside_a_batch_makes_no_blocks(name: str) -> None:
    values = range(5) if name == "seed" else list("abcde")
    assert len(make_sweep(**{name: values}).layout.blocks) == 1


@pytest.mark.parametrize("index", [-1, 6, 10**12])
def test_what_lies_outside_is_refused(index: int) -> None:
    layout = make_sweep(seed="0..5").layout
    for look in (layout.job, layout.digits, layout.position_of, layout.index_of, layout.block_of):
        with pytest.raises(IndexError, match=r"outside 0\.\.5"):
            look(index)


def test_a_billion_jobs_are_a_handful_of_objects() -> None:
    layout = make_sweep(
        guidance_scale=[1, 7.5], num_inference_steps=[20, 50], seed="0..249999999"
    ).layout
    assert layout.total == 1_000_000_000
    assert len(layout.blocks) == 4
    assert all(
        isinstance(column, tuple | range) for a in layout.manifest.axes for column in a.columns
    )
    seeds = layout.manifest.axes[-1].columns[0]
    assert isinstance(seeds, range)
    (whole,) = layout._groups[-1]
    assert whole.numbers == range(250_000_000)  # the axis as one lazy range, not a list
    assert layout._home[-1] is None
    for index in (0, 123_456_789, 999_999_999):
        assert layout.index_of(layout.position_of(index)) == index


def test_too_many_blocks_are_refused_naming_the_axes_that_cut() -> None:
    manifest = make_sweep(prompt=["a", "b"], num_inference_steps="1..65").manifest
    sizes = tuple(8 * number for number in range(1, 65))
    too_many = replace(manifest, axes=(*manifest.axes, Axis(fields=("height",), columns=(sizes,))))
    with pytest.raises(InvalidSweep) as caught:
        Layout(too_many)
    assert str(caught.value).startswith("the sweep has 4,160 combinations of weights, size and")
    assert "from num_inference_steps (65), height (64):" in str(caught.value)
    assert f"at most {MAX_BLOCKS:,} are allowed" in str(caught.value)
