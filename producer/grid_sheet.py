"""One page of a grid as a picture: title, labels that carry axis values, images, empty boxes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from PIL import Image, ImageDraw

from producer.grid_plan import Level, Page, Span
from producer.lettering import Colour, Lettering

PAPER: Colour = (252, 252, 250)
INK: Colour = (33, 35, 38)
SUBTLE: Colour = (124, 127, 132)
RULE: Colour = (214, 215, 217)
EDGE: Colour = (226, 227, 228)
EMPTY: tuple[Colour, Colour, Colour] = ((244, 244, 242), (226, 227, 226), (150, 152, 155))
"""Fill, outline and text of a box whose image is not there yet."""
BAD: tuple[Colour, Colour, Colour] = ((252, 242, 239), (238, 210, 203), (176, 79, 58))
"""The same for one that will not come."""

NOT_DONE = "not done"
BROKEN = ("failed", "damaged")
"""States whose boxes are red."""
ROW_LABEL_LINES = 8
COLUMN_LABEL_LINES = 4
CAPTION_LINES = 3
LABEL_EMS = 15
"""Widest row label, in its font's size."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """Sizes in pixels, all from the size of a cell.

    Attributes:
        cell: (width, height) of an image's place.
    """

    cell: tuple[int, int]

    @property
    def text(self) -> int:
        """Font size of labels."""
        return min(20, max(13, round(min(self.cell) / 12)))

    @property
    def small(self) -> int:
        """Font size of what is read last."""
        return round(self.text * 0.88)

    @property
    def title(self) -> int:
        """Font size of the sweep's name."""
        return round(self.text * 1.7)

    @property
    def line(self) -> int:
        """From one baseline to the next."""
        return round(self.text * 1.32)

    @property
    def margin(self) -> int:
        """Around the page."""
        return round(self.text * 2.4)

    @property
    def gap(self) -> int:
        """Between images."""
        return max(4, round(self.cell[0] / 24))

    @property
    def group_gap(self) -> int:
        """Between groups of nested labels."""
        return self.gap * 4


class Sheet:
    """A page being drawn: made with its labels, then filled image by image.

    Attributes:
        picture: RGB.
    """

    def __init__(
        self, page: Page, *, style: Style, lettering: Lettering, title: str, note: str
    ) -> None:
        """Lay the page out and draw everything but the images.

        Args:
            title: The sweep's name.
            note: What else to say of the page, in small letters.
        """
        self._page = page
        self._style = style
        self._lettering = lettering
        self._caption_lines = self._wrap_captions()
        self._label_widths = [self._label_width(level) for level in page.rows]
        self._left = style.margin + sum(self._label_widths)
        self._columns = self._starts(page.columns, len(page.cells[0]), style.cell[0])
        caption = max((len(lines) for row in self._caption_lines for lines in row), default=0)
        height = style.cell[1] + (caption * style.line + style.gap if caption else 0)
        self._rows = self._starts(page.rows, len(page.cells), height)
        self._heading = self._heading_lines(title, note)
        self._top = style.margin + sum(height for *_, height in self._heading) + style.text
        self._first_row = self._top + self._column_labels_height()
        names = [level.name for level in page.columns] + [page.caption_name]
        width = max(
            self._left + self._columns[-1] + style.cell[0],
            self._left + max(self._width(name, style.small) for name in names),
            style.margin + max(self._width(text, size) for text, size, _, _ in self._heading),
        )
        size = (width + style.margin, self._first_row + self._rows[-1] + height + style.margin)
        self.picture = Image.new("RGB", size, PAPER)
        self._draw = ImageDraw.Draw(self.picture)
        self._draw_heading()
        self._draw_column_labels()
        self._draw_row_labels()
        self._draw_captions()

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Upper left corner of a cell."""
        return self._left + self._columns[column], self._first_row + self._rows[row]

    def place(self, row: int, column: int, image: Image.Image) -> None:
        """Put an image, no larger than a cell, below its column's and beside its row's label."""
        x, y = self.corner(row, column)
        y += (self._style.cell[1] - image.height) // 2
        self.picture.paste(image, (x, y))
        self._draw.rectangle((x - 1, y - 1, x + image.width, y + image.height), outline=EDGE)

    def leave_empty(self, row: int, column: int, state: str = NOT_DONE) -> None:
        """Draw a box that says why there is no image."""
        x, y = self.corner(row, column)
        width, height = self._style.cell
        fill, outline, ink = BAD if state in BROKEN else EMPTY
        self._draw.rectangle((x, y, x + width - 1, y + height - 1), fill=fill, outline=outline)
        middle = (x + width / 2, y + height / 2)
        self._write(middle, state, self._style.small, ink, anchor="mm")

    def _starts(self, levels: tuple[Level, ...], count: int, size: int) -> list[int]:
        """Where each row or column starts; groups of nested levels stand apart."""
        gaps = [self._style.gap] * count
        for depth, level in reversed(list(enumerate(levels[:-1]))):
            wider = self._style.group_gap // (1 if depth == 0 else 2)
            for _, end in _with_starts(level)[1:]:
                gaps[end - 1] = wider
        return [0, *accumulate(size + gap for gap in gaps)][:count]

    def _heading_lines(self, title: str, note: str) -> list[tuple[str, int, Colour, int]]:
        """(text, font size, colour, height) of each line above the grid."""
        style = self._style
        width = max(self._left - style.margin + self._columns[-1] + style.cell[0], 24 * style.text)
        lines = [(title, style.title, INK, round(style.title * 1.35))]
        for name, value in self._page.facets:
            wrapped = self._lettering.wrap(
                f"{name}: {value}", size=style.text, width=width, lines=2
            )
            lines += [(line, style.text, INK, style.line) for line in wrapped]
        for line in self._lettering.wrap(note, size=style.small, width=width, lines=2):
            lines.append((line, style.small, SUBTLE, style.line))
        return lines

    def _draw_heading(self) -> None:
        y = self._style.margin
        for text, size, colour, height in self._heading:
            self._write((self._style.margin, y + size), text, size, colour)
            y += height

    def _label_width(self, level: Level) -> int:
        """Room for a level of row labels, the gap to what follows included."""
        style = self._style
        widest = max(self._width(span.label, style.text) for span in level.spans)
        room = max(min(widest, LABEL_EMS * style.text), self._width(level.name, style.small))
        return room + style.text

    def _draw_row_labels(self) -> None:
        style = self._style
        x = style.margin
        for level, width in zip(self._page.rows, self._label_widths, strict=True):
            below = self._first_row - style.gap - style.text // 3
            self._write((x, below), level.name, style.small, SUBTLE)
            row = 0
            for span in level.spans:
                top, bottom = self._rows[row], self._rows[row + span.size - 1] + style.cell[1]
                lines = self._lettering.wrap(
                    span.label,
                    size=style.text,
                    width=width - style.text,
                    lines=max(1, min(ROW_LABEL_LINES, (bottom - top) // style.line)),
                )
                y = self._first_row + (top + bottom - len(lines) * style.line) // 2
                self._write_lines((x, y), lines)
                row += span.size
            x += width

    def _column_labels_height(self) -> int:
        style = self._style
        if not self._page.columns:
            return style.line if self._page.rows or self._page.captions else style.gap
        return (
            sum(self._level_height(level) for level in self._page.columns[:-1])
            + style.line
            + self._level_lines(self._page.columns[-1]) * style.line
            + style.gap
        )

    def _level_height(self, level: Level) -> int:
        """Of an outer level: its labels and the rule below them."""
        return self._level_lines(level, inline=True) * self._style.line + self._style.gap * 2

    def _level_lines(self, level: Level, *, inline: bool = False) -> int:
        return max(
            len(self._span_lines(level, span, column, inline=inline))
            for span, column in _with_starts(level)
        )

    def _span_lines(self, level: Level, span: Span, column: int, *, inline: bool) -> list[str]:
        """The label of a span of columns, broken to its width."""
        last = column + span.size - 1
        width = self._columns[last] + self._style.cell[0] - self._columns[column]
        if inline:
            width -= self._indent(level)
        return self._lettering.wrap(
            span.label,
            size=self._style.text,
            width=max(width, 2 * self._style.text),
            lines=COLUMN_LABEL_LINES,
        )

    def _indent(self, level: Level) -> int:
        """Room for the name in front of an outer level's labels."""
        return self._width(level.name, self._style.text) + self._style.text // 2

    def _draw_column_labels(self) -> None:
        if not self._page.columns:
            return
        style = self._style
        y = self._top
        *outer, inner = self._page.columns
        for level in outer:
            height = self._level_height(level)
            for span, column in _with_starts(level):
                x = self._left + self._columns[column]
                end = self._left + self._columns[column + span.size - 1] + style.cell[0]
                self._write((x, y + style.text), level.name, style.text, SUBTLE)
                lines = self._span_lines(level, span, column, inline=True)
                self._write_lines((x + self._indent(level), y), lines)
                rule = y + height - style.gap - style.gap // 2
                self._draw.line((x, rule, end - 1, rule), fill=RULE)
            y += height
        self._write((self._left, y + style.text), inner.name, style.small, SUBTLE)
        bottom = self._first_row - style.gap - style.text // 3
        for span, column in _with_starts(inner):
            lines = self._span_lines(inner, span, column, inline=False)
            top = bottom - style.text - (len(lines) - 1) * style.line
            self._write_lines((self._left + self._columns[column], top), lines)

    def _wrap_captions(self) -> list[list[list[str]]]:
        return [
            [
                self._lettering.wrap(
                    caption,
                    size=self._style.text,
                    width=self._style.cell[0],
                    lines=CAPTION_LINES,
                )
                for caption in row
            ]
            for row in self._page.captions
        ]

    def _draw_captions(self) -> None:
        style = self._style
        if not self._page.captions:
            return
        above = self._first_row - style.gap - style.text // 3
        self._write((self._left, above), self._page.caption_name, style.small, SUBTLE)
        for row, captions in enumerate(self._caption_lines):
            for column, lines in enumerate(captions):
                x, y = self.corner(row, column)
                self._write_lines((x, y + style.cell[1] + style.gap), lines)

    def _write_lines(self, at: tuple[int, int], lines: list[str]) -> None:
        """Lines of a label, the first one's top at the given height."""
        x, y = at
        for line in lines:
            self._write((x, y + self._style.text), line, self._style.text, INK)
            y += self._style.line

    def _write(
        self, at: tuple[float, float], text: str, size: int, fill: Colour, anchor: str = "ls"
    ) -> None:
        self._lettering.draw(self._draw, at, text, size=size, fill=fill, anchor=anchor)

    def _width(self, text: str, size: int) -> int:
        return self._lettering.width(text, size)


def _with_starts(level: Level) -> list[tuple[Span, int]]:
    """Each span and the number of its first column."""
    starts = [0, *accumulate(span.size for span in level.spans)]
    return list(zip(level.spans, starts[:-1], strict=True))
