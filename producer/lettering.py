"""Text on contact sheets: measured, wrapped, and in a font that has its characters."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

from shared.errors import InvalidSettings

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]

FALLBACKS = (
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "Arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "wqy-microhei.ttc",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "AppleSDGothicNeo.ttc",
    "Arial Unicode.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansThai-Regular.ttf",
)
"""Asked for in this order, by file name, where the font inside Pillow lacks a character: it has
little beyond ASCII."""
ELLIPSIS = "…"
PROBE_SIZE = 24
"""Pixels at which characters are looked for: large enough to tell shapes apart."""
NO_GLYPH = "\U0010ffff"
"""No font has it: it is drawn as any missing character is."""


class Lettering:
    """Measures and draws lines of text, and remembers what no font could draw.

    Attributes:
        missing: Characters met so far that are drawn as empty boxes.
    """

    def __init__(self, texts: Iterable[str] = (), *, font: Path | None = None) -> None:
        """Choose one font for all the texts, so that a sheet looks of a piece.

        Args:
            texts: What will be drawn; single lines may still need another font.
            font: A file to prefer to the font inside Pillow.

        Raises:
            InvalidSettings: The file is not a font.
        """
        self.missing: set[str] = set()
        if font is not None:
            _check_font(font)
        faces: list[str | None] = [*([str(font)] if font else []), None]
        characters = {char for text in texts for char in _printable(text)}
        if not all(_has(faces[0], char) for char in characters):
            faces += _fallback_faces()
        # sorted is stable: among equals the first choice stays first
        self._faces = sorted(faces, key=lambda face: _lacking(face, characters))

    def width(self, text: str, size: int) -> int:
        """Pixels of one line, rounded up."""
        font, text = self._fit(text, size)
        return int(font.getlength(text)) + 1

    def draw(
        self,
        draw: ImageDraw.ImageDraw,
        at: tuple[float, float],
        text: str,
        *,
        size: int,
        fill: Colour,
        anchor: str = "ls",
    ) -> None:
        """Draw one line; ``anchor`` as Pillow's, ``ls`` being the baseline's left end."""
        font, text = self._fit(text, size)
        draw.text(at, text, font=font, fill=fill, anchor=anchor)

    def wrap(self, text: str, *, size: int, width: int, lines: int) -> list[str]:
        """Break at spaces, inside words only where one is too long; the rest is an ellipsis.

        Args:
            width: Pixels of a line.
            lines: At most so many, at least 1.
        """
        words = _printable(text).split()
        made: list[str] = []
        while words and len(made) < lines:
            line = words.pop(0)
            while words and self.width(f"{line} {words[0]}", size) <= width:
                line += f" {words.pop(0)}"
            if self.width(line, size) > width:
                kept = self._prefix(line, size, width)
                words.insert(0, line[len(kept) :])
                line = kept
            made.append(line)
        if words and made:
            made[-1] = self._cut(f"{made[-1]} {words[0]}", size, width)
        return made

    def _cut(self, text: str, size: int, width: int) -> str:
        """The beginning that fits with an ellipsis behind it."""
        kept = self._prefix(text, size, width - self.width(ELLIPSIS, size)) if text else ""
        return kept.rstrip(" ,.;:") + ELLIPSIS

    def _prefix(self, text: str, size: int, width: int) -> str:
        """As many characters as fit, at least one."""
        low, high = 1, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            if self.width(text[:middle], size) <= width:
                low = middle
            else:
                high = middle - 1
        return text[:low]

    def _fit(self, text: str, size: int) -> tuple[Font, str]:
        """The first font that has the whole text, else the one that has most of it."""
        text = _printable(text)
        face = min(self._faces, key=lambda face: _lacking(face, text))
        drawn = "".join(_plainer(face, char) for char in text)
        self.missing.update(char for char in drawn if not _has(face, char))
        return _font(face, size), drawn


def _check_font(path: Path) -> None:
    try:
        ImageFont.truetype(path, PROBE_SIZE)
    except OSError as exc:
        raise InvalidSettings(
            f"--font {str(path)!r} is not a font ({exc}): name a .ttf, .otf or .ttc file"
        ) from exc


def _printable(text: str) -> str:
    """One line: white space as spaces, and nothing that has no shape."""
    return "".join(char for char in " ".join(text.split()) if unicodedata.category(char)[0] != "C")


@lru_cache(maxsize=1)
def _fallback_faces() -> tuple[str, ...]:
    """Paths of those of FALLBACKS that this machine has."""
    found = []
    for name in FALLBACKS:
        with suppress(OSError):
            found.append(str(ImageFont.truetype(name, PROBE_SIZE).path))
    return tuple(found)


@lru_cache(maxsize=256)
def _font(face: str | None, size: int) -> Font:
    return ImageFont.load_default(size) if face is None else ImageFont.truetype(face, size)


def _lacking(face: str | None, text: Iterable[str]) -> int:
    return sum(not _has(face, char) for char in text)


@lru_cache(maxsize=100_000)
def _has(face: str | None, char: str) -> bool:
    """Whether the font draws the character as itself and not as a missing one."""
    if char == " " or unicodedata.category(char) == "Mn":
        return True
    font = _font(face, PROBE_SIZE)
    mask, none = font.getmask(char), font.getmask(NO_GLYPH)
    return mask.size != none.size or bytes(mask) != bytes(none)


def _plainer(face: str | None, char: str) -> str:
    """The character, or without its accents where the font has only that."""
    if _has(face, char):
        return char
    parts = unicodedata.normalize("NFKD", char)
    plain = "".join(part for part in parts if unicodedata.category(part) != "Mn")
    return plain if plain and not _lacking(face, plain) else char
