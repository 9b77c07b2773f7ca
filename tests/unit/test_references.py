"""Sweeps by id, by a beginning of it, or by name."""

from __future__ import annotations

import pytest

from producer.references import pick_sweep
from shared.errors import InvalidInput, UnknownSweep

SHAPES, SHAPES_TWO, CATS = "shapes-0123456789ab", "shapes-two-ba9876543210", "cats-aaaabbbbcccc"
KNOWN = [SHAPES, SHAPES_TWO, CATS]


@pytest.mark.parametrize(
    ("reference", "meant"),
    [
        (SHAPES, SHAPES),
        ("shapes", SHAPES),
        ("shapes-two", SHAPES_TWO),
        ("shapes-0", SHAPES),
        ("shapes-t", SHAPES_TWO),
        ("c", CATS),
    ],
)
def test_a_reference_means_one_sweep(reference: str, meant: str) -> None:
    assert pick_sweep(reference, KNOWN) == meant


@pytest.mark.parametrize("reference", ["", "dogs", "shapes-0123456789abc", "hapes"])
def test_what_matches_nothing_is_unknown(reference: str) -> None:
    with pytest.raises(UnknownSweep):
        pick_sweep(reference, KNOWN)


def test_an_ambiguous_beginning_lists_a_few() -> None:
    many = [f"s{number}-0123456789ab" for number in range(9)]
    with pytest.raises(InvalidInput, match=r"'s' can be s0-\w+, s1-\w+, s2-\w+, s3-\w+, \.\.\.:"):
        pick_sweep("s", many)
