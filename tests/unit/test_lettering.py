"""Labels fit their room, and characters that no font has are remembered."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from producer.lettering import ELLIPSIS, Lettering
from shared.errors import InvalidSettings

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)


@settings(max_examples=150, deadline=None)
@given(text=TEXTS, width=st.integers(20, 300), lines=st.integers(1, 4))
def test_wrapped_lines_fit(text: str, width: int, lines: int) -> None:
    lettering = Lettering()
    wrapped = lettering.wrap(text, size=14, width=width, lines=lines)
    assert len(wrapped) <= lines
    for line in wrapped:
        assert lettering.width(line, 14) <= width or len(line) <= 2


@given(words=st.lists(st.text("abcdefgh", min_size=1, max_size=8), max_size=12))
def test_nothing_is_lost_where_there_is_room(words: list[str]) -> None:
    text = " ".join(words)
    assert " ".join(Lettering().wrap(text, size=14, width=90, lines=99)) == text


def test_what_does_not_fit_ends_in_an_ellipsis() -> None:
    (line,) = Lettering().wrap("a red circle on a blue background", size=14, width=120, lines=1)
    assert line.startswith("a red circle")
    assert line.endswith(ELLIPSIS)


def test_a_word_longer_than_a_line_is_broken() -> None:
    lines = Lettering().wrap("x" * 40, size=14, width=100, lines=9)
    assert len(lines) > 1
    assert "".join(lines) == "x" * 40


def test_line_breaks_and_control_characters_are_no_part_of_a_label() -> None:
    lines = Lettering().wrap("two\nlines\x1b[31m", size=14, width=500, lines=3)
    assert lines == ["two lines[31m"]


def test_a_character_that_no_font_has_is_remembered() -> None:
    lettering = Lettering()
    lettering.width("plain text, 7.5", 14)
    assert lettering.missing == set()
    lettering.width("plain \U000f1234 \U0001f9ffx\ue123", 14)
    assert "x" not in lettering.missing


def test_an_accent_that_the_font_lacks_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.lettering._fallback_faces", lambda: ())
    lettering = Lettering(["Käse"])
    assert lettering.width("Käse", 14) == lettering.width("Kase", 14)
    assert lettering.missing == set()


def test_all_texts_of_a_sheet_are_in_one_font_where_one_has_them() -> None:
    texts = ["plain", "кошка"]
    lettering = Lettering(texts)
    for text in texts:
        lettering.width(text, 14)
    if lettering.missing:
        pytest.skip("needs a font with Cyrillic letters, such as DejaVu Sans")
    assert lettering.width("plain", 14) != Lettering(["plain"]).width("plain", 14)


def test_a_line_is_drawn_where_it_was_measured() -> None:
    image = Image.new("RGB", (200, 40))
    lettering = Lettering()
    lettering.draw(ImageDraw.Draw(image), (10, 30), "guidance", size=16, fill=(255, 255, 255))
    box = image.getbbox()
    assert box is not None
    assert 9 <= box[0] <= 12
    assert abs(box[2] - 10 - lettering.width("guidance", 16)) <= 2
    assert 14 <= box[1] < 30 <= box[3] <= 36


def test_a_given_font_is_used(tmp_path: Path) -> None:
    inside = ImageFont.load_default(10)
    assert isinstance(inside, ImageFont.FreeTypeFont)
    path = tmp_path / "font.ttf"
    path.write_bytes(inside.font_bytes)
    assert Lettering(font=path).width("plain", 14) == Lettering().width("plain", 14)


def test_a_file_that_is_no_font_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "font.ttf"
    path.write_text("no font")
    with pytest.raises(InvalidSettings, match=r"--font '.*font\.ttf' is not a font"):
        Lettering(font=path)
