"""Templates: every choice is made, text is kept, and what can't be read says where."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.templates import Template
from shared.errors import InvalidSweep


def prompts(text: str, folder: Path | None = None) -> list[object]:
    return [prompt for _, prompt in Template(text, folder).numbered()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Wildcard files, and one outside of their folder."""
    found = tmp_path / "words"
    (found / "sub").mkdir(parents=True)
    (found / "color.txt").write_text("red\n\nC# {light|dark} blue\nred\n", encoding="utf-8")
    (found / "sub" / "x.txt").write_text("an __color__ x\n", encoding="utf-8")
    (found / "loop.txt").write_text("__again__\n", encoding="utf-8")
    (found / "again.txt").write_text("__loop__\n", encoding="utf-8")
    (tmp_path / "secret.txt").write_text("secret\n", encoding="utf-8")
    (found / "link.txt").symlink_to(tmp_path / "secret.txt")
    return found


def test_choices_multiply_and_the_last_is_fastest() -> None:
    assert prompts("a {green|white} star on {a red|an orange} background") == [
        "a green star on a red background",
        "a green star on an orange background",
        "a white star on a red background",
        "a white star on an orange background",
    ]


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("no choice", ["no choice"]),
        ("{a|}b", ["ab", "b"]),
        ("{{a|b}|c}", ["a", "b", "c"]),
        ("{2$$a|b}", ["a,b", "b,a"]),
        ("{1-2$$ and $$a|b}", ["a", "b", "a and b", "b and a"]),
        (
            "C# costs $5, 50% off \\ (a:1.2)\t{x|y}",
            [f"C# costs $5, 50% off \\ (a:1.2)\t{c}" for c in "xy"],
        ),
        ("月 {红|绿} 🦊\n zwei ", ["月 红 🦊\n zwei ", "月 绿 🦊\n zwei "]),
        ("'quotes' \"{a|b}\"", ["'quotes' \"a\"", "'quotes' \"b\""]),
    ],
)
def test_what_a_template_makes(text: str, made: list[str]) -> None:
    assert prompts(text) == made


def test_a_wildcard_is_each_line_of_its_file(folder: Path) -> None:
    colors = ["red", "C# light blue", "C# dark blue"]
    assert prompts("__color__ {1|2}", folder) == [f"{color} {n}" for color in colors for n in "12"]
    assert prompts("__sub/x__", folder) == [f"an {color} x" for color in colors]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a {b|c", "template 'a {b|c' has an unclosed brace at character 3: close it with '}'"),
        ("{a|{b|c}", "template '{a|{b|c}' has an unclosed brace at character 1: close it"),
        ("a} b", "template 'a} b' closes a brace at character 2 that is not open: take it out"),
        ("x__y", "template 'x__y' can't be read at character 2: write {a|b}, {2$$a|b|c} or"),
        ("a {$$b}", "template 'a {$$b}' can't be read at character 3"),
        ("{~a|b}", "template '{~a|b}' has a random choice: take its '~' or '@' away"),
        ("${x=1}", "template '${x=1}' has ${ at character 1, a variable or wrap"),
        ("a %{b...$$c}", "template 'a %{b...$$c}' has %{ at character 3, a variable or wrap"),
        ("{" * 17 + "}" * 17, "template '{{{{{{{{{{{{{{{{{}}}}}}}}}}}}}}}}}' has over 16 braces"),
        ("x" * 20_000, "template 'xxx"),
        ("__nix__", "wildcard file nix.txt does not exist: check its path"),
        ("__*__", "template '__*__' has a wildcard that is not a plain name: '*'"),
        ("__loop__", "template '__loop__': wildcard __loop__ leads back to itself"),
        ("__../secret__", "template '__../secret__': wildcard __../secret__ is outside the folder"),
        ("__/etc/hosts__", "template '__/etc/hosts__': wildcard __/etc/hosts__ is outside"),
        ("__link__", "template '__link__': wildcard __link__ is outside the folder"),
    ],
)
def test_what_cannot_be_read_says_where(folder: Path, text: str, sentence: str) -> None:
    with pytest.raises(InvalidSweep) as caught:
        prompts(text, folder)
    assert str(caught.value).startswith(sentence)


def test_a_wildcard_needs_a_folder() -> None:
    with pytest.raises(InvalidSweep, match="no folder to look it up in: say wildcards: FOLDER"):
        prompts("__color__")


def test_expansions_are_counted_before_any_is_made() -> None:
    started = time.monotonic()
    with pytest.raises(InvalidSweep, match=r"makes 10,000,000,000 prompts: at most 1,000,000,000"):
        prompts("{a|b|c|d|e|f|g|h|i|j}" * 10)
    with pytest.raises(InvalidSweep, match=r"makes [0-9,]{24,} prompts"):
        prompts("{20$$" + "|".join(f"{number}" for number in range(24)) + "}")
    assert time.monotonic() - started < 5


CHOICES = st.recursive(
    st.text("abc XY5,.", min_size=1, max_size=4).map(str.strip).filter(bool),
    lambda parts: st.lists(parts, min_size=1, max_size=3).map(lambda of: "{" + "|".join(of) + "}"),
    max_leaves=6,
)


@given(st.lists(CHOICES, min_size=1, max_size=3))
def test_the_count_is_never_below_what_is_made(parts: list[str]) -> None:
    text = " ".join(parts)
    template = Template(text)
    count = template._count(template._parse(text, "it"), ())
    assert 0 < len(prompts(text)) <= count
