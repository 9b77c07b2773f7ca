"""Contact sheets: a sweep's images in rows and columns that carry their axis values."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from producer.grid_plan import CELL_RANGE, MAX_SIDE, GridPlan, Limits, Page
from producer.grid_sheet import NOT_DONE, Sheet, Style
from producer.lettering import Lettering
from producer.parallel import in_parallel
from producer.png_check import flaw
from producer.writing import unwritable
from shared.errors import InvalidInput, ObjectMissing

if TYPE_CHECKING:
    from producer.results import SweepResults

CONTACT_SHEET = "contact-sheet.png"
"""What a grid is called unless told otherwise."""
MAX_PAGES = 32
"""Pages drawn unless more are asked for."""
MAX_PAGE_PIXELS = 100_000_000
"""A page takes three bytes of memory each, and viewers give up beyond."""
MAX_PAGE_WIDTH = 25_000
SMALL_IMAGE = 128
"""Images with shorter sides are shown larger, by a whole factor."""
CELLS = (128, 256)
"""Bounds the longer side of larger images on a page, by how many columns it has."""
WIDE_PAGE = 2_560
"""Pixels that the columns of larger images should fit into."""
WORKERS = 16


@dataclass(frozen=True, kw_only=True)
class DrawnPage:
    """One contact sheet on disk.

    Attributes:
        path: A PNG.
        images: How many of its places hold an image.
        places: How many jobs it has a place for.
        facets: What its images have in common and other pages' don't.
    """

    path: Path
    images: int
    places: int
    facets: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class DrawnGrid:
    """What drawing came to.

    Attributes:
        pages: Those that were drawn.
        rows: Fields along the side.
        columns: Fields along the top.
        notes: What a reader should know, one sentence each.
    """

    pages: tuple[DrawnPage, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class GridOptions:
    """How a grid is laid out.

    Attributes:
        x: Fields along the top, outermost first, see `producer.grid_plan.GridPlan`.
        y: Fields along the side.
        cell_pixels: Longer side of an image on the page; None suits the images.
        max_pages: Pages beyond are left out, which a note says.
        font: For labels, where the fonts of this machine lack their characters.
    """

    x: tuple[str, ...] = ()
    y: tuple[str, ...] = ()
    cell_pixels: int | None = None
    max_pages: int = MAX_PAGES
    font: Path | None = None


def draw_grid(
    results: SweepResults,
    path: Path,
    options: GridOptions | None = None,
    *,
    only: Collection[int] | None = None,
    failed: Collection[int] = (),
    progress: Callable[[int, int], None] | None = None,
) -> DrawnGrid:
    """Draw a sweep's images in rows and columns, page by page.

    Args:
        path: The PNG; pages of a longer grid are numbered ``grid-01.png`` and so on.
        options: None lets the sweep's axes decide.
        only: The user's indices of the images to draw; None is all of them.
        failed: The user's indices of jobs that were given up.
        progress: Called with places filled and places in all.

    Raises:
        InvalidInput: A field of ``x`` or ``y`` does not vary, or a size can't be drawn.
        InvalidSettings: The file can't be written.
        StorageError: Storage does not answer.
    """
    options = options or GridOptions()
    cell_pixels, max_pages = options.cell_pixels, options.max_pages
    if cell_pixels is not None and not CELL_RANGE[0] <= cell_pixels <= CELL_RANGE[1]:
        raise InvalidInput(
            f"--cell {cell_pixels} is not a number of pixels from {CELL_RANGE[0]} to "
            f"{CELL_RANGE[1]:,}"
        )
    plan = GridPlan(results.manifest, x=options.x, y=options.y, only=only)
    columns = len(plan.page(1).cells[0])
    scale, style = _scale(results, columns=columns, cell_pixels=cell_pixels)
    limits = _limits(style, columns)
    count = plan.page_count(limits)
    pages = [plan.page(number, limits) for number in range(1, min(count, max_pages) + 1)]
    title = results.manifest.name
    lettering = Lettering(
        [title, *(text for page in pages for text in page.texts())], font=options.font
    )
    load = partial(_load, results, scale=scale, size=style.cell, failed=failed)
    total, filled = sum(len(_cells(page)) for page in pages), 0
    drawn = []
    for page in pages:
        note = _note(results, page, count)
        sheet = Sheet(page, style=style, lettering=lettering, title=title, note=note)
        images = 0
        with closing(in_parallel(load, _cells(page), WORKERS)) as loaded:
            for row, column, found in loaded:
                if isinstance(found, str):
                    sheet.leave_empty(row, column, found)
                else:
                    sheet.place(row, column, found)
                    images += 1
                filled += 1
                if progress is not None:
                    progress(filled, total)
        target = _page_path(path, page.number, min(count, max_pages))
        _save(sheet.picture, target)
        drawn.append(
            DrawnPage(path=target, images=images, places=len(_cells(page)), facets=page.facets)
        )
    return DrawnGrid(
        pages=tuple(drawn),
        rows=plan.row_fields,
        columns=plan.column_fields,
        notes=_notes(results.manifest.sweep_id, count, len(pages), lettering),
    )


Cell = tuple[int, int, int]
"""Row, column and the user's index."""


def _cells(page: Page) -> list[Cell]:
    return [
        (row, column, index)
        for row, indices in enumerate(page.cells)
        for column, index in enumerate(indices)
        if index is not None
    ]


def _load(
    results: SweepResults,
    cell: Cell,
    *,
    scale: float,
    size: tuple[int, int],
    failed: Collection[int],
) -> tuple[int, int, Image.Image | str]:
    """The image as the page shows it, or the state that its box tells."""
    row, column, index = cell
    absent = "failed" if index in failed else NOT_DONE
    address = results.address_of(index)
    if address is None:
        return row, column, absent
    try:
        data = results.storage.get(address.key)
    except ObjectMissing:
        return row, column, absent
    if flaw(data, address.digest) is not None:
        return row, column, "damaged"
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            return row, column, _resized(image, scale, size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return row, column, "damaged"


def _resized(image: Image.Image, scale: float, cell: tuple[int, int]) -> Image.Image:
    """The image at the page's scale; smaller where it is not of the size its job says."""
    scale = min(scale, cell[0] / image.width, cell[1] / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    how = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS
    return image.convert("RGB").resize(size, how)


def _scale(results: SweepResults, *, columns: int, cell_pixels: int | None) -> tuple[float, Style]:
    """Pixels on the page for one of an image's, and the sizes that follow."""
    width, height = _largest(results, "width"), _largest(results, "height")
    longest = max(width, height)
    if cell_pixels is not None:
        scale = cell_pixels / longest
    elif longest < SMALL_IMAGE:
        scale = float(max(2, round(SMALL_IMAGE / longest)))
    else:
        scale = min(longest, max(CELLS[0], min(CELLS[1], WIDE_PAGE // columns))) / longest
    cell = (max(CELL_RANGE[0], round(width * scale)), max(CELL_RANGE[0], round(height * scale)))
    return scale, Style(cell=cell)


def _largest(results: SweepResults, name: str) -> int:
    """The largest width or height of the sweep's images, in pixels."""
    own = max((getattr(pin, name) for pin in results.pins.values()), default=SMALL_IMAGE)
    given = [results.manifest.fixed[name]] if name in results.manifest.fixed else []
    for axis in results.manifest.axes:
        if name in axis.fields:
            given = list(axis.distinct(name))
    return max(value if isinstance(value, int) else own for value in given)


def _limits(style: Style, columns: int) -> Limits:
    """The most rows and columns of a page."""
    width, height = style.cell[0] + style.gap, style.cell[1] + style.gap
    columns = min(columns, max(1, MAX_PAGE_WIDTH // width))
    return min(MAX_SIDE, max(1, MAX_PAGE_PIXELS // (columns * width) // height)), columns


def _note(results: SweepResults, page: Page, count: int) -> str:
    parts = [results.manifest.sweep_id, f"page {page.number} of {count:,}" if count > 1 else ""]
    return " · ".join(part for part in (*parts, page.part) if part)


def _notes(sweep_id: str, count: int, drawn: int, lettering: Lettering) -> tuple[str, ...]:
    notes = []
    if drawn < count:
        notes.append(
            f"{drawn:,} of {count:,} pages drawn; "
            f"'seedbed grid {sweep_id} --pages {count}' draws all of them"
        )
    if lettering.missing:
        shown = "".join(sorted(lettering.missing)[:8])
        notes.append(
            f"no font here has {shown}: drawn as empty boxes, rows and columns being in the "
            f"sweep's own order; 'seedbed grid --font FILE' takes a font that has them"
        )
    return tuple(notes)


def _page_path(path: Path, number: int, count: int) -> Path:
    if count == 1:
        return path
    return path.with_name(f"{path.stem}-{number:0{max(2, len(str(count)))}}{path.suffix}")


def _save(picture: Image.Image, path: Path) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(part, "PNG", compress_level=4)
        part.replace(path)
    except OSError as exc:
        with suppress(OSError):
            part.unlink()
        raise unwritable(path, exc) from exc
