"""Measurements as text: what comes back is what was written, and nothing else is believed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.capacity import read_capacity
from tests.factories import make_capacity, make_curve

numbers = st.integers(-(2**70), 2**70) | st.floats()
scalars = st.none() | st.booleans() | numbers | st.text(max_size=3)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
)


def test_a_record_comes_back_as_it_was_written() -> None:
    for capacity in (
        make_capacity(),
        make_capacity(decode=None, memory_bytes=None),
        make_capacity(denoise=make_curve({1: (0.125, None), 3: (0.5, None)}, knee=1, cap=3)),
    ):
        assert read_capacity(capacity.to_text()) == capacity
        assert read_capacity(capacity.to_text().encode()) == capacity


def test_whatever_differs_has_another_name() -> None:
    key = make_capacity().key
    others = [
        replace(key, device="another"),
        replace(key, weights="another"),
        replace(key, dtype="bfloat16"),
        replace(key, height=72),
        replace(key, width=72),
        replace(key, attention="AttnProcessor x 8"),
        replace(key, software={**key.software, "torch": "9"}),
        replace(key, software={**key.software, "renderer": "9"}),
    ]
    assert len({key.name, *(other.name for other in others)}) == 1 + len(others)
    assert key.name == replace(key, software=dict(reversed(list(key.software.items())))).name


def test_a_batch_is_at_the_denoisers_knee_within_the_vaes_cap() -> None:
    denoise = make_curve({1: (1.0, 1), 4: (1.0, 1), 16: (4.0, 1)}, knee=4, cap=16)
    roomy = make_curve({1: (1.0, 1), 8: (1.0, 1)}, knee=1, cap=8)
    tight = make_curve({1: (1.0, 1)}, knee=1, cap=1)

    def sizes(capacity: Any) -> tuple[int, int]:
        return capacity.batch_size(1), capacity.batch_size(2)

    assert sizes(make_capacity(denoise=denoise, decode=roomy)) == (4, 2)
    assert sizes(make_capacity(denoise=denoise, decode=tight)) == (1, 1)
    assert sizes(make_capacity(denoise=denoise, decode=None)) == (4, 2)
    late = make_curve({1: (1.0, 1)}, knee=1, cap=1, reach=3, bound="time")
    assert sizes(make_capacity(denoise=denoise, decode=late)) == (3, 2), "not confirmed, but known"
    assert sizes(make_capacity(denoise=tight, decode=None)) == (1, 1)


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "1", '"text"', "{}", '{"version":2}', b"\xff\xfe", "[" * 100_000],
)
def test_what_is_no_record_is_none(text: str | bytes) -> None:
    assert read_capacity(text) is None


WRONG: list[tuple[str, Any]] = [
    ("version", 2),
    ("steps", 0),
    ("steps", 1.5),
    ("at", "yesterday"),
    ("at", float("nan")),
    ("model", None),
    ("worker", 3),
    ("memory_bytes", -1),
    ("more", 1),
    ("denoise", None),
    ("denoise.knee", 3),
    ("denoise.knee", True),
    ("denoise.cap", 2),
    ("denoise.reach", 7),
    ("model", "\ud800"),
    ("denoise.cap", 1e9),
    ("denoise.bound", "money"),
    ("denoise.points", []),
    ("denoise.points", [{"rows": 1}]),
    ("denoise.points.0.rows", 0),
    ("denoise.points.0.rows", 7),
    ("denoise.points.0.rows", 2**80),
    ("denoise.points.0.seconds", 0),
    ("denoise.points.0.seconds", -1.0),
    ("denoise.points.0.seconds", float("inf")),
    ("denoise.points.0.peak_bytes", "1 GB"),
    ("key.height", "64"),
    ("key.software", ["torch"]),
    ("key.software", {"torch": 2}),
    ("key.more", "x"),
]


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_a_record_with_one_wrong_member_is_none(path: str, value: Any) -> None:
    data = json.loads(make_capacity().to_text())
    *way, last = path.split(".")
    place = data
    for name in way:
        place = place[int(name)] if name.isdecimal() else place[name]
    place[last] = value

    assert read_capacity(json.dumps(data)) is None


@given(path=st.lists(st.integers(0, 20), min_size=1, max_size=4), value=anything)
def test_no_value_anywhere_makes_reading_fail(path: list[int], value: Any) -> None:
    data = json.loads(make_capacity().to_text())
    place = data
    for step in path[:-1]:
        members = list(place.values()) if isinstance(place, dict) else place
        if not isinstance(members, list) or not members:
            return
        place = members[step % len(members)]
    if isinstance(place, dict):
        place[sorted(place)[path[-1] % len(place)]] = value
    elif isinstance(place, list) and place:
        place[path[-1] % len(place)] = value

    found = read_capacity(json.dumps(data))

    assert found is None or read_capacity(found.to_text()) == found
