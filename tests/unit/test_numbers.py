"""Numbers are read exactly, or not at all."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.numbers import finite_number, whole_number


@pytest.mark.parametrize("value", [5, 5.0, "5", " 5 ", "+5", "05", "5.", "5.0", "5e0", "0.5e1"])
def test_one_whole_number_has_many_spellings(value: object) -> None:
    number = whole_number(value)
    assert number == 5
    assert type(number) is int


@given(st.integers(-(2**70), 2**70))
def test_every_digit_of_a_whole_number_counts(number: int) -> None:
    assert whole_number(number) == number
    assert whole_number(str(number)) == number
    assert whole_number(f"{number}.0") == number
    assert whole_number(f"{number}0e-1") == number


@pytest.mark.parametrize(
    "value",
    [5.5, "5.5", "1.00000000000000000001", "5e-999999", "0e99999999999999999999", "1e999999999"],
)
def test_what_is_not_exactly_whole_is_none(value: object) -> None:
    assert whole_number(value) is None


def test_a_float_too_large_to_be_exact_is_no_whole_number() -> None:
    assert whole_number(float(2**53 - 1)) == 2**53 - 1
    assert whole_number(float(2**53)) is None


@pytest.mark.parametrize(
    "value", ["", "five", "1_000", "0x10", "٣", "1,5", "--5", "5 5", "9" * 5000, None, True, [5]]
)
def test_what_is_no_number_is_none(value: object) -> None:
    assert whole_number(value) is None
    assert finite_number(value) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", "inf", "1e999", 10**400])
def test_what_is_not_finite_is_none(value: object) -> None:
    assert finite_number(value) is None


@pytest.mark.parametrize("value", [-0.0, "-0", "-0.0"])
def test_minus_nought_is_nought(value: object) -> None:
    number = finite_number(value)
    assert number == 0
    assert number is not None
    assert math.copysign(1, number) == 1


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_comes_back_from_its_text(number: float) -> None:
    assert finite_number(repr(number)) == number
