"""A key always holds the digest, never leaves its prefix, and never grows too long."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.errors import InvalidSweep
from shared.fields import FIELDS
from shared.object_keys import (
    DEFAULT_TEMPLATE,
    MAX_KEY_BYTES,
    MAX_PART_BYTES,
    RESERVED,
    check_template,
    object_key,
    render_template,
    template_names,
)
from tests.strategies import FIELD_VALUES

DIGEST = "0123456789abcdef" * 4
pieces = st.sampled_from(
    [*(f"{{{name}}}" for name in FIELDS), "{digest}", "{digest:.2}", "{seed:06}", "{eta:.2f}"]
) | st.sampled_from(["/", "_", ".", "..", " ", "a", "sweeps", "inputs", "月", "{{", "}}", "-"])
templates = st.lists(pieces, max_size=8).map("".join).map(lambda text: text + "{digest}.png")


def valid(template: str) -> bool:
    try:
        check_template(template)
    except InvalidSweep:
        return False
    return True


@pytest.mark.parametrize(
    "template",
    [
        DEFAULT_TEMPLATE,
        "{digest}.png",
        "{model}/{seed:06}_{digest}.png",
        "my sweeps/{guidance_scale:.1f}/{digest}.png",
        "{{x}}/{digest}.png",
        "{prompt}-{digest}.png",
    ],
)
def test_a_good_template_stays_as_it_is(template: str) -> None:
    assert check_template(template) == template


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("", "has no {digest}: add it"),
        ("{seed}.png", "has no {digest}: add it"),
        ("{digest:.2}.png", "has no {digest}: add it"),
        ("{{digest}}.png", "has no {digest}: add it"),
        ("{digest", "is not a template"),
        ("{digest}}.png", "is not a template"),
        ("{sed}-{digest}.png", "has '{sed}': did you mean 'seed'?"),
        ("{}-{digest}.png", "has '{}': it can be model"),
        ("{0}-{digest}.png", "has '{0}': it can be model"),
        ("{seed.real}-{digest}.png", "has '{seed.real}': did you mean 'seed'?"),
        ("{seed.__class__}-{digest}.png", "has '{seed.__class__}': "),
        ("{seed[0]}-{digest}.png", "has '{seed[0]}': did you mean 'seed'?"),
        ("{\ud800}-{digest}.png", "has '{\\ud800}': "),
        ("{seed!r}-{digest}.png", "has more than {seed} or {seed:06}: keep it plain"),
        ("{seed:{eta}}-{digest}.png", "has more than {seed}"),
        ("{seed:99999999}-{digest}.png", "has more than {seed}"),
        ("{seed:.999999}-{digest}.png", "has more than {seed}"),
        ("{seed:/>9}-{digest}.png", "has more than {seed}"),
        ("{prompt:06d}-{digest}.png", "has {prompt:06d}, which is no format of it: leave it out"),
        ("/{digest}.png", "climbs out of its prefix or has an empty part"),
        ("a//{digest}.png", "climbs out of its prefix or has an empty part"),
        ("../{digest}.png", "climbs out of its prefix or has an empty part"),
        ("a/../{digest}.png", "climbs out of its prefix or has an empty part"),
        ("./{digest}.png", "climbs out of its prefix or has an empty part"),
        ("a/ /{digest}.png", "climbs out of its prefix or has an empty part"),
        ("sweeps/{digest}.png", "starts with sweeps/, which Seedbed keeps: use another folder"),
        ("inputs/{digest}.png", "starts with inputs/, which Seedbed keeps: use another folder"),
        ("{digest}", "does not end with .png"),
        ("{digest}.png/x", "does not end with .png"),
        ("{digest}.jpg", "does not end with .png"),
        ("a\n{digest}.png", "has a control character or backslash: take it out"),
        ("a\\{digest}.png", "has a control character or backslash: take it out"),
        ("a\u2028{digest}.png", "has a control character or backslash: take it out"),
        ("\ud800{digest}.png", "has a control character or backslash: take it out"),
        ("x" * 200 + "{digest}.png", "makes names of 268 bytes: at most 255 are allowed"),
        ("{prompt}{model}{negative_prompt}{digest}.png", "makes names of 308 bytes: at most 255"),
        ("x/" * 300 + "{digest}.png", "makes keys of 668 bytes: at most 512"),
    ],
)
def test_a_bad_template_is_refused_with_its_remedy(template: str, why: str) -> None:
    with pytest.raises(InvalidSweep) as caught:
        check_template(template)
    message = str(caught.value)
    assert message.startswith("output.key ")
    assert why in message
    assert caught.value.field == "output.key"
    assert message.encode()


@given(st.text() | st.text(alphabet="{}digestseed:!.[]/\\09", max_size=20))
def test_any_text_is_a_template_or_refused(text: str) -> None:
    for template in (text, text + "{digest}.png"):
        if valid(template):
            assert DIGEST in object_key(template, dict.fromkeys(FIELDS, 1), digest=DIGEST)


@given(templates, st.fixed_dictionaries(FIELD_VALUES))
def test_no_value_makes_a_key_that_could_do_harm(template: str, values: dict[str, Any]) -> None:
    assume(valid(template))
    key = object_key(template, values, digest=DIGEST)
    parts = key.split("/")
    assert DIGEST in parts[-1]
    assert key.endswith(".png")
    assert len(parts) == len(template.split("/"))
    assert parts[0] not in RESERVED
    assert not {"", ".", ".."} & {part.strip(" ") for part in parts}
    assert key.isprintable()
    assert len(key.encode()) <= MAX_KEY_BYTES + 1
    assert max(len(part.encode()) for part in parts) <= MAX_PART_BYTES + 1


@given(templates, st.fixed_dictionaries(FIELD_VALUES))
def test_a_key_is_a_pure_function_of_its_job(template: str, values: dict[str, Any]) -> None:
    assume(valid(template))
    once = object_key(template, values, digest=DIGEST)
    assert object_key(template, dict(reversed(values.items())), digest=DIGEST) == once
    assert object_key(template, values, digest="f" * 64) != once


@pytest.mark.parametrize(
    ("template", "values", "key"),
    [
        ("{seed:06}.png", {"seed": 7}, "000007.png"),
        ("{guidance_scale:.1f}.png", {"guidance_scale": 7.25}, "7.2.png"),
        ("{height:04}.png", {"height": None}, "None.png"),
        ("{digest:.2}/{digest}.png", {}, f"01/{DIGEST}.png"),
        ("{prompt}.png", {"prompt": "../../etc/passwd"}, "_.._etc_passwd.png"),
        ("{prompt}.png", {"prompt": ".."}, "_.png"),
        ("{prompt}.png", {"prompt": ""}, "_.png"),
        ("{prompt}.png", {"prompt": "a\nb\0c<d>"}, "a_b_c_d_.png"),
        ("{prompt}.png", {"prompt": "月" * 100}, "月" * 26 + ".png"),
        ("{prompt}.png", {"prompt": "{seed}"}, "_seed_.png"),
    ],
)
def test_values_become_safe_names(template: str, values: dict[str, Any], key: str) -> None:
    assert render_template(template, values, digest=DIGEST) == key


@pytest.mark.parametrize("model", RESERVED)
def test_a_model_of_a_reserved_name_does_not_get_among_the_records(model: str) -> None:
    template = check_template("{model}/{digest}.png")
    assert object_key(template, {"model": model}, digest=DIGEST) == f"_{model}/{DIGEST}.png"


def test_the_names_a_template_uses_are_told_in_order() -> None:
    template = "{seed}_{index:06}_{seed}.png"
    assert template_names(template, ["index", "seed"], what="--name") == ["seed", "index", "seed"]
    with pytest.raises(InvalidSweep, match=r"^--name '\{sed\}' has '\{sed\}': did you mean 'seed'"):
        template_names("{sed}", ["index", "seed"], what="--name")
