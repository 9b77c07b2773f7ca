"""A pin is read back as it was written, and nothing else is taken for one."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidManifest
from shared.pin import Pin
from tests.factories import make_pin
from tests.strategies import texts


@given(weights=texts, renderer=texts, height=st.integers(1, 9999), embeds_guidance=st.booleans())
def test_a_pin_comes_back(weights: str, renderer: str, height: int, embeds_guidance: bool) -> None:
    pin = make_pin(
        weights=weights, renderer=renderer, height=height, embeds_guidance=embeds_guidance
    )
    assert Pin.from_text(pin.to_text()) == pin
    assert Pin.from_text(pin.to_text()).to_text() == pin.to_text()


def test_equal_pins_have_equal_texts_and_others_do_not() -> None:
    assert make_pin().to_text() == make_pin().to_text()
    for change in (
        {"weights": "x"},
        {"dtype": "x"},
        {"height": 1},
        {"embeds_guidance": True},
        {"autocast": "bfloat16"},
        {"vae_tiling": True},
    ):
        assert make_pin(**change).to_text() != make_pin().to_text()


def test_settings_that_are_off_are_not_in_a_pin() -> None:
    off = json.loads(make_pin().to_text())
    assert set(off) == {
        "weights", "dtype", "renderer", "height", "width", "scheduler", "embeds_guidance",
    }  # fmt: skip
    on = make_pin(autocast="bfloat16", vae_tiling=True)
    assert json.loads(on.to_text()) == off | {"autocast": "bfloat16", "vae_tiling": True}
    assert Pin.from_text(on.to_text()) == on


@pytest.mark.parametrize(
    "change",
    [
        {"weights": None},
        {"weights": "\ud800"},
        {"dtype": 32},
        {"height": "64"},
        {"height": 64.0},
        {"height": True},
        {"height": 0},
        {"width": -8},
        {"embeds_guidance": 1},
        {"embeds_guidance": None},
        {"autocast": True},
        {"vae_tiling": None},
        {"another": 1},
    ],
)
def test_a_broken_pin_is_refused(change: dict[str, object]) -> None:
    text = json.dumps(asdict(make_pin()) | change)
    with pytest.raises(InvalidManifest, match="pin"):
        Pin.from_text(text)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "5", '"x"', "[" * 100_000, "9" * 5000, '{"weights":NaN}']
)
def test_other_text_is_no_pin(text: str) -> None:
    with pytest.raises(InvalidManifest, match="is not one of this version"):
        Pin.from_text(text)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(InvalidManifest):
        Pin.from_text(text)
