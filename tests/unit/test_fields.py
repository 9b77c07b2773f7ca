"""Every field reads what it should, and refuses the rest in one sentence with a remedy."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidSweep
from shared.field_values import check_value
from shared.fields import FIELDS, MAX_TEXT_BYTES, REQUIRED
from shared.job import Job
from shared.mistakes import nearest, shown

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


def test_the_table_and_the_job_agree() -> None:
    ours = {field.name: field.default for field in FIELDS.values() if field.name not in REQUIRED}
    theirs = {item.name: item.default for item in fields(Job) if item.default is not MISSING}
    assert ours == theirs
    assert {item.name for item in fields(Job)} == set(FIELDS)


def test_every_default_is_valid() -> None:
    for name, field in FIELDS.items():
        if name not in REQUIRED:
            assert check_value(name, field.default) == field.default


@pytest.mark.parametrize("value", [5, 5.0, "5", " 5.0 ", "5e0"])
@pytest.mark.parametrize("name", ["seed", "num_inference_steps", "guidance_scale"])
def test_five_is_one_number_however_it_is_written(name: str, value: object) -> None:
    assert repr(check_value(name, value)) == ("5.0" if name == "guidance_scale" else "5")


def test_a_seed_keeps_every_digit() -> None:
    assert check_value("seed", "9223372036854775807") == 2**63 - 1
    assert check_value("seed", "9007199254740993.0") == 2**53 + 1


def test_minus_nought_is_nought() -> None:
    assert math.copysign(1, float(check_value("eta", -0.0) or 0)) == 1


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("seed", -1, "seed -1 is not a whole number from 0 to 2**63-1"),
        ("seed", 2**63, "seed 9223372036854775808 is not a whole number from 0 to 2**63-1"),
        ("seed", 0.5, "seed 0.5 is not a whole number from 0 to 2**63-1"),
        ("seed", 1e17, "seed 1e+17 is not a whole number from 0 to 2**63-1"),
        ("seed", "many", "seed 'many' is not a whole number from 0 to 2**63-1"),
        ("seed", True, "seed True is not a whole number from 0 to 2**63-1"),
        ("seed", None, "seed is null: give it a whole number from 0 to 2**63-1"),
        ("height", 70, "height 70 is not a multiple of 8: write 64 or 72"),
        ("height", "8191", "height 8191 is not a multiple of 8: write 8184 or 8192"),
        ("height", 0, "height 0 is not a whole number from 8 to 8192"),
        ("width", 8200, "width 8200 is not a whole number from 8 to 8192"),
        ("num_inference_steps", 0, "num_inference_steps 0 is not a whole number from 1 to 1000"),
        ("guidance_scale", math.nan, "guidance_scale nan is not a number from 0 to 1000"),
        ("guidance_scale", math.inf, "guidance_scale inf is not a number from 0 to 1000"),
        ("guidance_scale", ".inf", "guidance_scale '.inf' is not a number from 0 to 1000"),
        ("guidance_scale", "1e999", "guidance_scale '1e999' is not a number from 0 to 1000"),
        ("guidance_scale", -0.1, "guidance_scale -0.1 is not a number from 0 to 1000"),
        ("eta", 1.01, "eta 1.01 is not a number from 0 to 1"),
        ("guidance_rescale", None, "guidance_rescale is null: give it a number from 0 to 1"),
        (
            "scheduler",
            "DDIM",
            "scheduler 'DDIM' is not known: did you mean 'DDIMScheduler'?",
        ),
        (
            "scheduler",
            "EulerDiscrete",
            "scheduler 'EulerDiscrete' is not known: did you mean 'EulerDiscreteScheduler'?",
        ),
        ("scheduler", 5, "scheduler 5 is not a diffusers scheduler's class name"),
        ("generator_device", "gpu", "generator_device 'gpu' is not known: write cpu or cuda"),
        ("generator_device", None, "generator_device is null: give it cpu or cuda"),
        ("model", "", "model is empty: say which model to use"),
        ("revision", " ", "revision is empty: say which revision to use, or leave it out"),
        ("model", None, "model is null: give it a text"),
        ("prompt", None, "prompt is null: give it a text"),
        ("prompt", False, "prompt False is not a text"),
        ("prompt", {"file": "x"}, "prompt {'file': 'x'} is not a text"),
        ("prompt", math.nan, "prompt nan is not a text"),
        ("prompt", "a\0b", "prompt 'a\\x00b' has a NUL character: take it out"),
        (
            "prompt",
            "\ud800",
            "prompt '\\ud800' has a lone surrogate: write it as valid Unicode text",
        ),
        (
            "prompt",
            "x" * (MAX_TEXT_BYTES + 1),
            f"prompt '{'x' * 56}... is 16385 bytes long: at most 16384 are allowed",
        ),
    ],
)
def test_a_bad_value_is_named_with_its_remedy(name: str, value: object, sentence: str) -> None:
    with pytest.raises(InvalidSweep) as caught:
        check_value(name, value)
    assert str(caught.value) == sentence
    assert caught.value.field == name


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_a_prompt_may_be_empty_or_blank_or_many_lines(name: str) -> None:
    for text in ("", " ", "two\nlines", "{a|b}", "0..31"):
        assert check_value(name, text) == text


def test_null_is_not_the_empty_text() -> None:
    assert check_value("negative_prompt", None) is None
    assert check_value("negative_prompt", "") == ""


def test_a_number_is_text_where_a_field_is_text() -> None:
    assert check_value("prompt", 1984) == "1984"
    assert check_value("prompt", "0123456") == "0123456"


@pytest.mark.parametrize("text", ["é", "e\u0301", "\ufeffx", " x ", "x\u2028y"])
def test_text_is_kept_byte_for_byte(text: str) -> None:
    assert check_value("prompt", text) == text


@given(name=st.sampled_from(sorted(FIELDS)), value=ANYTHING)
def test_any_value_is_read_or_refused_and_reading_is_stable(name: str, value: object) -> None:
    try:
        read = check_value(name, value)
    except InvalidSweep as exc:
        message = str(exc)
        read = FIELDS[name].default if name not in REQUIRED else "x"
    else:
        message = name
    assert "\n" not in message
    assert name in message
    assert message.encode()
    assert check_value(name, read) == read
    assert check_value(name, json.loads(json.dumps(read))) == read


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("sed", "did you mean 'seed'?"),
        ("guidance", "did you mean 'guidance_scale'?"),
        ("steps", "did you mean 'num_inference_steps'?"),
        ("qqq", "it can be model, revision, variant, vae"),
        ("x" * 10**6, "it can be model"),
    ],
)
def test_the_nearest_right_name_is_suggested(name: str, hint: str) -> None:
    assert nearest(name, list(FIELDS)).startswith(hint)


def test_any_value_can_be_shown_on_one_short_line() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    endless: list[object] = []
    endless.append(endless)
    for value in (
        10**5000,
        deep,
        endless,
        "x" * 10**6,
        "a\nb",
        {"k": [1] * 99},
        object(),
        range(3),
    ):
        text = shown(value)
        assert len(text) <= 60
        assert "\n" not in text
    assert shown("it's") == '"it\'s"'
    assert shown(10**5000) == "a whole number of about 5001 digits"
    while deep:  # take it apart by hand: freeing it at once recurses
        deep = deep.pop()  # type: ignore[assignment]
