"""``grid``, ``fetch`` and ``show``: looking at a sweep's images and having them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from producer.cli.help import SectionCommand, examples
from producer.cli.numbers import Whole
from producer.cli.output import json_option, one_line, plain, print_json, say, size_text
from producer.cli.png_path import PngPath
from producer.cli.progress import counting
from producer.cli.settings_options import pool_client
from producer.cli.sweep_argument import sweep_argument
from producer.grid_plan import CELL_RANGE

if TYPE_CHECKING:
    from producer.client import Client
    from producer.fetch import Fetched
    from producer.grid import DrawnGrid
    from producer.show import Origin

SHOWN_PROBLEMS = 10
STDIN = "-"

out_type = click.Path(path_type=Path)


@click.command(
    cls=SectionCommand,
    epilog=examples(
        "seedbed grid shapes-study",
        "seedbed grid shapes-study --x seed --y prompt --out sheet.png",
    ),
)
@sweep_argument
@click.option("--x", metavar="FIELD", multiple=True, help="along the top; repeat it to nest")
@click.option("--y", metavar="FIELD", multiple=True, help="along the side; repeat it to nest")
@click.option(
    "--out", type=PngPath(), metavar="FILE", help="the PNG (default: NAME/contact-sheet.png)"
)
@click.option(
    "--cell", "cell_pixels", type=Whole(*CELL_RANGE), metavar="PIXELS", help="size of one image"
)
@click.option("--pages", type=Whole(1), help="most pages to draw  [default: 32]", metavar="N")
@click.option("--font", type=out_type, help="font file for labels", metavar="FILE")
@pool_client
@json_option
def grid(
    sweep: str,
    x: tuple[str, ...],
    y: tuple[str, ...],
    out: Path | None,
    cell_pixels: int | None,
    pages: int | None,
    font: Path | None,
    client: Client,
    as_json: bool,
) -> None:
    """Draw a contact sheet whose rows and columns carry their axis values.

    Fields that are neither along the top nor along the side make pages. Without --x and --y,
    prompts make the rows, and the columns are chosen to need few pages.
    """
    from producer.grid import MAX_PAGES, GridOptions

    options = GridOptions(
        x=x, y=y, cell_pixels=cell_pixels, max_pages=pages or MAX_PAGES, font=font
    )
    with counting("drawing", quiet=as_json) as move:
        drawn = client.grid(sweep, out, options=options, progress=move)
    if as_json:
        print_json(_grid_values(drawn))
        return
    for note in drawn.notes:
        say(f"note: {note}")
    for page in drawn.pages:
        click.echo(f"{page.path}  {page.images:,} of {page.places:,} places filled")


@click.command(
    cls=SectionCommand,
    epilog=examples(
        "seedbed fetch shapes-study --out images",
        "seedbed fetch shapes-study --name '{index:06}_seed={seed}'",
    ),
)
@sweep_argument
@click.option("--out", type=out_type, metavar="FOLDER", help="folder (default: the sweep's name)")
@click.option("--name", metavar="TEMPLATE", help="such as '{index:06}_seed={seed}'")
@pool_client
@json_option
def fetch(sweep: str, out: Path | None, name: str | None, client: Client, as_json: bool) -> int:
    """Download a sweep's images under readable names.

    Files that are there already and whole are kept, so that an interrupted fetch goes on. A
    template may use every field of a job, {index} and {digest}; slashes make folders.
    """
    with counting("fetching", quiet=as_json) as move:
        fetched = client.fetch(sweep, out, name=name, progress=move)
    if as_json:
        print_json({**plain(fetched), "folder": str(fetched.folder)})
    else:
        _tell(fetched, sweep)
    return 1 if fetched.missing or fetched.damaged else 0


@click.command(
    cls=SectionCommand,
    epilog=examples(
        "seedbed show images/000003_seed=3.png --sweep > sweep.yaml",
        "seedbed show - --json < image.png",
    ),
)
@click.argument("image")
@click.option("--sweep", "as_sweep", is_flag=True, help="print a sweep file that makes it again")
@json_option
def show(image: str, as_sweep: bool, as_json: bool) -> None:
    """Tell what made an image, and the command that makes it again.

    Needs nothing but the file; '-' is standard input.
    """
    from producer.show import read_origin

    if as_sweep and as_json:
        raise click.UsageError("--sweep prints YAML: leave out --json")
    origin = read_origin(sys.stdin.buffer.read() if image == STDIN else Path(image))
    if as_sweep:
        from producer.sweep_text import sweep_text

        name = "an image" if image == STDIN else Path(image).name
        click.echo(sweep_text(origin, name=name), nl=False)
        return
    if as_json:
        print_json(
            {
                "digest": origin.digest,
                "job": dict(origin.job),
                "pin": dict(origin.pin),
                "arguments": list(origin.arguments),
                "command": origin.command,
            }
        )
        return
    _describe(origin)


def _tell(fetched: Fetched, sweep: str) -> None:
    """How many came, which did not, and what to do about those."""
    for problem in fetched.problems[:SHOWN_PROBLEMS]:
        where = f" ({problem.key})" if problem.key else ""
        say(one_line(f"image {problem.title} {problem.reason}{where}"))
    lost = fetched.missing + fetched.damaged
    if lost > SHOWN_PROBLEMS:
        say(f"... and {lost - SHOWN_PROBLEMS:,} more; --json lists them")
    if lost:
        say(f"'seedbed repair {sweep}' has them rendered again")
    kept = f", {fetched.skipped:,} more were there" if fetched.skipped else ""
    images = f"{fetched.written:,} {'image' if fetched.written == 1 else 'images'}"
    click.echo(f"{fetched.folder}  {images}, {size_text(fetched.bytes)}{kept}")


def _describe(origin: Origin) -> None:
    """The job's fields, the image's identity, and the command on its own line to copy."""
    facts = {name: value for name, value in origin.job.items() if value is not None}
    facts["digest"] = origin.digest
    facts |= {name: str(origin.pin[name]) for name in _PINNED if name in origin.pin}
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {one_line(str(value))}")
    if origin.unknown:
        say(f"note: this version does not know {', '.join(map(one_line, origin.unknown))}")
    click.echo(f"\nmake it again:\n{origin.command}")


_PINNED = ("weights", "dtype", "renderer")
"""Of a pin, what the same pixels need besides the job."""


def _grid_values(drawn: DrawnGrid) -> dict[str, object]:
    return {
        "pages": [
            {**plain(page), "path": str(page.path), "facets": dict(page.facets)}
            for page in drawn.pages
        ],
        "rows": list(drawn.rows),
        "columns": list(drawn.columns),
        "notes": list(drawn.notes),
    }
