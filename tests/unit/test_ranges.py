"""Ranges hold exactly the numbers their text promises, and never list seeds."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidSweep
from shared.ranges import MAX_JOBS, checked_range, compact, parse_range


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("seed", "0..3", [0, 1, 2, 3]),
        ("seed", " 5..5 ", [5]),
        ("seed", "0..30..10", [0, 10, 20, 30]),
        ("seed", "0..29..10", [0, 10, 20]),
        ("seed", "1e1..12", [10, 11, 12]),
        ("num_inference_steps", "10..50..20", [10, 30, 50]),
        ("height", "64..96..8", [64, 72, 80, 88, 96]),
        ("guidance_scale", "1..3", [1.0, 2.0, 3.0]),
        ("guidance_scale", "1.0..2.5..0.5", [1.0, 1.5, 2.0, 2.5]),
        ("eta", "0..1..0.1", [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        ("eta", "0...5...25", [0, 0.25, 0.5]),
    ],
)
def test_both_ends_are_included(name: str, text: str, values: list[float]) -> None:
    assert list(parse_range(name, text) or ()) == values


@pytest.mark.parametrize("text", ["7", "a..b", "..5", "5..", "1..2..3..4", "1 .. 2", "", "0,1"])
def test_other_texts_are_no_ranges(text: str) -> None:
    assert parse_range("seed", text) is None


@pytest.mark.parametrize("name", ["prompt", "negative_prompt", "model", "scheduler"])
def test_a_text_field_has_no_ranges(name: str) -> None:
    assert parse_range(name, "0..3") is None


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("seed", "5..2", "empty range.*smaller end first"),
        ("seed", "0..4..0", "empty range.*step above 0"),
        ("seed", "0..4..-1", "empty range"),
        ("seed", "-1..4", "is not a whole number from 0 to"),
        ("seed", "0..9223372036854775808", r"is not a whole number from 0 to 2\*\*63-1"),
        ("seed", "0..9223372036854775807", "9,223,372,036,854,775,808 values.*1,000,000,000"),
        ("seed", "0.5..4", "has 0.5: seed takes whole numbers"),
        ("seed", "0..4..0.5", "has 0.5: seed takes whole numbers"),
        ("seed", "0..1e999999999", "has 1e999999999"),
        ("seed", "0..1..1e-999999999", "has 1e-999999999"),
        ("height", "64..96", "write 64..96..8"),
        ("height", "65..96..8", "not a multiple of 8"),
        ("num_inference_steps", "0..10", "is not a whole number from 1 to 1000"),
        ("guidance_scale", "1.5..3", r"no step: write 1.5..3..0.5"),
        ("guidance_scale", "0..2000", "is not a number from 0 to 1000"),
        ("eta", "0..1..1e-9", "1,000,000,001 values: at most 1,000,000"),
        ("eta", "0..1..1e-300", "values: at most 1,000,000"),
        ("eta", "0..1..1e999999999", "too large"),
    ],
)
def test_a_range_that_cannot_be_says_why(name: str, text: str, why: str) -> None:
    with pytest.raises(InvalidSweep, match=why) as caught:
        parse_range(name, text)
    assert caught.value.field == name


@given(st.integers(0, 2**62), st.integers(0, MAX_JOBS - 1), st.integers(1, 2**32))
def test_a_range_of_seeds_is_lazy_and_exact(start: int, steps: int, step: int) -> None:
    stop = start + steps * step
    if stop >= 2**63:
        return
    assert parse_range("seed", f"{start}..{stop}..{step}") == range(start, stop + 1, step)


@given(st.integers(0, 500), st.integers(1, 99), st.integers(0, 200))
def test_fractional_steps_add_no_rounding(start: int, step: int, count: int) -> None:
    stop = Fraction(start) + Fraction(step, 100) * count
    values = parse_range("guidance_scale", f"{start}..{float(stop)!r}..0.{step:02}")
    wanted = [float(Fraction(start) + Fraction(step, 100) * number) for number in range(count + 1)]
    assert list(values or ()) == wanted


def test_a_python_range_of_seeds_stays_lazy_and_others_are_listed() -> None:
    assert checked_range("seed", range(3, 10**9, 7)) == range(3, 10**9, 7)
    assert checked_range("seed", range(3, 0, -1)) == (3, 2, 1)
    assert checked_range("height", range(64, 81, 8)) == (64, 72, 80)
    assert checked_range("guidance_scale", range(2)) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("seed", range(0), "empty range"),
        ("seed", range(-1, 3), "-1 is not"),
        ("seed", range(2**63, 2**63 + 2), "is not a whole number"),
        ("seed", range(2**63), "a sweep has at most"),
        ("seed", range(2**62, -1, -1), "at most 1,000,000"),
        ("height", range(64, 80), "not a multiple of 8"),
        ("prompt", range(3), "it takes texts"),
        ("scheduler", range(3), "it takes texts"),
    ],
)
def test_a_python_range_is_checked_too(name: str, values: range, why: str) -> None:
    with pytest.raises(InvalidSweep, match=why):
        checked_range(name, values)


@given(st.lists(st.integers(0, 20) | st.integers(0, 2**63 - 1), unique=True, max_size=6))
def test_compacting_keeps_the_values_and_their_order(seeds: list[int]) -> None:
    assert list(compact("seed", tuple(seeds))) == seeds


@pytest.mark.parametrize("seeds", [(0, 1, 2), (3, 7), (0, 2**62), (0, 2**63 - 1)])
def test_evenly_rising_seeds_are_a_range(seeds: tuple[int, ...]) -> None:
    assert isinstance(compact("seed", seeds), range)


@pytest.mark.parametrize("seeds", [(), (5,), (2, 1, 0), (0, 1, 3), (0, 1, 2**63 - 1)])
def test_other_seeds_stay_a_list(seeds: tuple[int, ...]) -> None:
    assert compact("seed", seeds) == seeds
    assert compact("num_inference_steps", (1, 2, 3)) == (1, 2, 3)
