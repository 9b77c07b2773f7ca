"""Equal things have equal text, different things don't."""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.canonical import canonical_json, sha256_hex

UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | UNICODE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(UNICODE, inner, max_size=3),
    max_leaves=8,
)


def test_five_and_five_point_nought_are_one_text() -> None:
    assert canonical_json([5, 5.0, -0.0, 0]) == "[5,5,0,0]"


def test_keys_are_sorted_and_nothing_is_padded() -> None:
    assert canonical_json({"b": 1, "a": {"d": [], "c": None}}) == '{"a":{"c":null,"d":[]},"b":1}'


def test_true_is_not_one() -> None:
    assert canonical_json([True, 1, False, 0]) == "[true,1,false,0]"


def test_text_is_written_as_itself() -> None:
    assert canonical_json('käse 月 "\\\n') == '"käse 月 \\"\\\\\\n"'


def test_text_is_kept_byte_for_byte_without_normalisation() -> None:
    composed = "é"
    decomposed = unicodedata.normalize("NFD", composed)
    assert canonical_json(composed) != canonical_json(decomposed)


@pytest.mark.parametrize("seed", [2**53, 2**53 + 1, 2**63 - 1])
def test_large_integers_keep_every_digit(seed: int) -> None:
    assert canonical_json({"seed": seed}) == f'{{"seed":{seed}}}'


def test_a_float_beyond_exact_integers_stays_a_float() -> None:
    assert canonical_json(1e300) == "1e+300"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": [value]})


@given(JSON)
def test_it_is_json_and_a_fixed_point(value: object) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


@given(JSON, JSON)
def test_texts_are_equal_only_for_equal_values(one: object, other: object) -> None:
    if canonical_json(one) == canonical_json(other):
        assert one == other


@given(st.dictionaries(UNICODE, st.integers(), max_size=5))
def test_the_order_of_keys_does_not_matter(value: dict[str, int]) -> None:
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


def test_the_hash_is_sha256_of_utf8() -> None:
    assert sha256_hex("月") == hashlib.sha256("月".encode()).hexdigest()
