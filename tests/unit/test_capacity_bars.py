"""Curves for people: bars on a terminal, and the same as a picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from producer.capacity_bars import BAR, plot_lines, plots
from producer.capacity_chart import CAP, KNEE, LINE, MOST_DRAWN, draw_chart
from shared.errors import InvalidInput
from tests.factories import make_capacity, make_curve

GB = 10**9
CURVE = make_curve(
    {
        1: (0.1, GB),
        2: (0.1, 2 * GB),
        4: (0.1, 3 * GB),
        8: (0.2, 5 * GB),
        16: (0.4, 9 * GB),
    },
    knee=4,
    cap=8,
)


def test_a_bar_is_as_long_as_the_batch_is_quick_and_knee_and_cap_are_marked() -> None:
    assert list(plot_lines(CURVE, "ROWS")) == [
        "    ROWS   SECONDS     MEMORY   IMAGES/S",
        f"       1     0.100   1,000 MB       10.0  {'█' * 8}",
        f"       2     0.100   2,000 MB       20.0  {'█' * 16}",
        f"       4     0.100   3,000 MB       40.0  {'█' * 32}  knee",
        f"       8     0.200   5,000 MB       40.0  {'█' * 32}  cap: memory ends",
        f"      16     0.400   9,000 MB       40.0  {'█' * 32}  too much memory",
    ]


@pytest.mark.parametrize(
    ("bound", "words"),
    [("memory", "memory ends"), ("rows", "no more were tried"), ("time", "was over")],
)
def test_a_plot_says_why_the_cap_is_where_it_is(bound: str, words: str) -> None:
    curve = make_curve({1: (0.1, None)}, knee=1, cap=1, bound=bound)  # type: ignore[arg-type]

    line = list(plot_lines(curve, "IMAGES"))[1]

    assert "knee, cap: " in line
    assert words in line
    assert " -  " in line, "memory that nobody can tell"


@given(
    seconds=st.lists(st.floats(1e-9, 1e6), min_size=1, max_size=12),
)
def test_bars_fit_whatever_was_measured(seconds: list[float]) -> None:
    points = {2**power: (value, None) for power, value in enumerate(seconds)}
    curve = make_curve(points, knee=1, cap=1)

    _, *lines = plot_lines(curve, "ROWS")

    assert len(lines) == len(seconds)
    assert max(line.count("█") for line in lines) <= BAR


def test_a_pipeline_without_a_vae_has_one_curve() -> None:
    assert [title for title, _, _ in plots(make_capacity())][1] == "decoding"
    assert len(list(plots(make_capacity(decode=None)))) == 1


def colours(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as image:
        counted = image.convert("RGB").getcolors(1 << 24)
    assert counted is not None
    return {colour for _, colour in counted if isinstance(colour, tuple)}


def test_the_picture_has_the_curve_and_both_marks(tmp_path: Path) -> None:
    path = tmp_path / "capacity.png"

    assert draw_chart([make_capacity(denoise=CURVE)], path) == 1

    assert {LINE, KNEE, CAP} <= colours(path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        left, right = image.crop((0, 0, 548, image.height)), image.crop((576, 0, *image.size))
        for half in (left, right):
            assert KNEE in {colour for _, colour in half.getcolors(1 << 24) or []}


def test_each_measurement_has_its_own_row_up_to_a_bound(tmp_path: Path) -> None:
    heights = []
    for count in (1, 2, MOST_DRAWN + 5):
        drawn = draw_chart([make_capacity()] * count, tmp_path / "many.png")
        assert drawn == min(count, MOST_DRAWN)
        with Image.open(tmp_path / "many.png") as image:
            heights.append(image.height)
    assert heights[0] < heights[1] < heights[2]


@pytest.mark.parametrize(
    "points",
    [
        {1: (0.1, None)},
        {1: (1e-9, None), 2: (1e6, None)},
        {1: (3.0, None), 3: (3.0, None), 1 << 20: (3.0, None)},
    ],
)
def test_odd_curves_are_drawn_as_well(
    points: dict[int, tuple[float, int | None]], tmp_path: Path
) -> None:
    curve = make_curve(points, knee=1, cap=max(points))
    capacity = make_capacity(denoise=curve, decode=None, model="名前 " * 80, device="x" * 300)

    assert draw_chart([capacity], tmp_path / "odd.png") == 1


def test_a_folder_that_is_not_there_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="can't be written"):
        draw_chart([make_capacity()], tmp_path / "none" / "capacity.png")
