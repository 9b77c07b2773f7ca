"""``repair``: the queue's account of a sweep, brought in line with storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from producer.cli.help import SectionCommand, examples
from producer.cli.output import json_option, one_line, plain, print_json, say
from producer.cli.progress import counting
from producer.cli.settings_options import pool_client
from producer.cli.sweep_argument import sweep_argument
from producer.client import Client

if TYPE_CHECKING:
    from producer.repair import Repaired

SHOWN_PROBLEMS = 10


@click.command(
    cls=SectionCommand,
    epilog=examples("seedbed repair shapes-study", "seedbed repair shapes-study --check --json"),
)
@sweep_argument
@click.option("--check", is_flag=True, help="tell what is wrong, and change nothing")
@click.option("--quick", is_flag=True, help="only look for images; damaged ones are not found")
@pool_client
@json_option
def repair(sweep: str, check: bool, quick: bool, client: Client, as_json: bool) -> int:
    """Bring what the queue says of a sweep in line with what storage holds.

    Reads every image. A job that is called done but whose image is missing or damaged is rendered
    again; damaged objects are deleted. An image that is stored but not counted is counted. A sweep
    that Redis has lost, whole or in part, is entered again from its stored manifest. Workers may
    run meanwhile, and running it twice does no harm.

    Exits 1 where an image can't be read; with --check, where there is anything to mend.
    """
    with counting("comparing", quiet=as_json) as move:
        found = client.repair(sweep, check=check, read=not quick, progress=move)
    if as_json:
        print_json({**plain(found), "sound": found.sound})
    else:
        _tell(found)
    return 1 if found.unreadable or (check and not found.sound) else 0


def _tell(found: Repaired) -> None:
    for problem in found.problems[:SHOWN_PROBLEMS]:
        say(one_line(f"image {problem.title} {problem.reason} ({problem.key})"))
    faulty = found.missing + found.damaged + found.unreadable
    if faulty > SHOWN_PROBLEMS:
        say(f"... and {faulty - SHOWN_PROBLEMS:,} more; --json lists them")
    looked = "whole" if found.read else "there"
    click.echo(
        f"{found.sweep_id}: {found.stored:,} of {found.total:,} images are stored and {looked}"
    )
    for line in _changes(found):
        click.echo(f"  {line}")
    if found.sound:
        click.echo("  nothing to mend")
    elif found.checked_only:
        say(f"nothing was changed; 'seedbed repair {found.sweep_id}' mends it")


def _changes(found: Repaired) -> list[str]:
    """What was found, and what that led or would lead to."""
    counted = "to be counted" if found.checked_only else "now counted"
    pending = "to be rendered again" if found.checked_only else "pending again"
    again = "to be entered again" if found.checked_only else "entered again"
    facts = [
        (found.lost, f"Redis had lost the sweep: {again}"),
        (found.torn, f"Redis had lost a part of the sweep: {again}"),
        (found.uncounted, f"{found.uncounted:,} stored but not counted as done: {counted}"),
        (found.missing, f"{found.missing:,} counted as done but not in storage: {pending}"),
        (found.damaged, f"{found.damaged:,} damaged: {_deleted(found)}{pending}"),
        (found.unreadable, f"{found.unreadable:,} can't be read: left alone"),
        (found.left, f"{found.left:,} damaged but being rendered: left to their worker"),
    ]
    return [text for there, text in facts if there]


def _deleted(found: Repaired) -> str:
    return "" if found.checked_only else "deleted, "
