"""``find``: a sweep's jobs by what made them; prints, fetches and draws them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from producer.cli.help import SectionCommand, examples
from producer.cli.output import (
    json_option,
    limit_option,
    one_line,
    plain,
    print_json,
    print_table,
    say,
)
from producer.cli.png_path import PngPath
from producer.cli.progress import counting
from producer.cli.settings_options import pool_client
from producer.cli.sweep_argument import sweep_argument

if TYPE_CHECKING:
    from producer.client import Client
    from producer.fetch import Fetched
    from producer.find import Finding, Hit
    from producer.grid import DrawnGrid

SHOWN = 50
"""Rows printed unless told otherwise."""
SHOWN_TITLE = 100
"""Characters of a row's title."""

path_type = click.Path(path_type=Path)


@click.command(
    cls=SectionCommand,
    epilog=examples(
        "seedbed find shapes-study --where 'seed in (1, 2) and prompt like \"%star%\"'",
        "seedbed find shapes-study --where 'guidance_scale >= 7' --grid best.png --fetch best",
    ),
)
@sweep_argument
@click.option("--where", metavar="CONDITION", help="comparisons of columns; all jobs if not given")
@click.option("--fetch", "folder", type=path_type, metavar="FOLDER", help="download the images")
@click.option("--grid", "sheet", type=PngPath(), metavar="FILE", help="draw a contact sheet")
@limit_option(SHOWN)
@pool_client
@json_option
def find(
    sweep: str,
    where: str | None,
    folder: Path | None,
    sheet: Path | None,
    limit: int,
    client: Client,
    as_json: bool,
) -> int:
    """Find jobs of a sweep by what made them.

    CONDITION compares columns: fields of a job, and index, state, key, digest, bytes, reused,
    flagged, seconds, worker, receipt, reason. It may use =, <>, <, <=, >, >=, between, in, like,
    ilike, is null, and, or, not and parentheses, nothing else. Texts are in single quotes, or in
    double quotes where no column has that name. A sweep that still runs is asked for what is
    done so far.
    """
    with client.search(sweep, where) as finding:
        count = finding.count()
        hits = list(finding.hits(limit or None))
        drawn = fetched = None
        if sheet is not None:
            with counting("drawing", quiet=as_json) as move:
                drawn = finding.grid(sheet, progress=move)
        if folder is not None:
            with counting("fetching", quiet=as_json) as move:
                fetched = finding.fetch(folder, progress=move)
        if as_json:
            print_json(_values(finding, count, hits, drawn, fetched))
        else:
            _tell(finding, count, hits)
            _tell_files(drawn, fetched)
    return 1 if fetched is not None and (fetched.missing or fetched.damaged) else 0


def _tell(finding: Finding, count: int, hits: list[Hit]) -> None:
    if hits:
        print_table(
            ("INDEX", "JOB", "KEY"),
            [
                (
                    str(hit.index),
                    _cut(one_line(hit.title.partition(" ")[2])),
                    hit.key or f"failed: {_cut(one_line(hit.reason or ''))}",
                )
                for hit in hits
            ],
        )
    more = f", {len(hits):,} shown; --limit 0 shows all" if len(hits) < count else ""
    so_far = " so far" if finding.source == "queue" else ""
    say(f"{count:,} {'job' if count == 1 else 'jobs'} found{so_far}{more}")


def _tell_files(drawn: DrawnGrid | None, fetched: Fetched | None) -> None:
    for page in drawn.pages if drawn is not None else ():
        click.echo(f"{page.path}  {page.images:,} of {page.places:,} places filled")
    for note in drawn.notes if drawn is not None else ():
        say(f"note: {note}")
    if fetched is not None:
        lost = fetched.missing + fetched.damaged
        kept = f", {fetched.skipped:,} more were there" if fetched.skipped else ""
        gone = f", {lost:,} could not be fetched" if lost else ""
        click.echo(f"{fetched.folder}  {fetched.written:,} images{kept}{gone}")


def _values(
    finding: Finding,
    count: int,
    hits: list[Hit],
    drawn: DrawnGrid | None,
    fetched: Fetched | None,
) -> dict[str, object]:
    values: dict[str, object] = {
        "sweep_id": finding.results.manifest.sweep_id,
        "source": finding.source,
        "found": count,
        "jobs": plain(hits),
    }
    if drawn is not None:
        values["grid"] = [str(page.path) for page in drawn.pages]
    if fetched is not None:
        values["fetched"] = {**plain(fetched), "folder": str(fetched.folder)}
    return values


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_TITLE else f"{text[: SHOWN_TITLE - 3]}..."
