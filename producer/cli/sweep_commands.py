"""``status``, ``watch``, ``ls`` and what can be done to a sweep: pause to delete."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from producer.cli.help import SectionCommand, examples
from producer.cli.numbers import Number
from producer.cli.output import (
    json_option,
    one_line,
    plain,
    print_json,
    print_table,
    say,
    size_text,
)
from producer.cli.progress import WaitNotes, following
from producer.cli.settings_options import pool_client
from producer.cli.sweep_argument import sweep_argument
from producer.client import Client
from producer.waiting import Waits

if TYPE_CHECKING:
    from producer.failures import JobFailure
    from shared.queue import SweepStatus

SHOWN_FAILURES = 20
"""Failed jobs that people are shown."""
LISTED_FAILURES = 10_000
"""Failed jobs in JSON."""


@click.command(
    cls=SectionCommand,
    epilog=examples("seedbed status shapes-study", "seedbed status shapes-study --json | jq .done"),
)
@sweep_argument
@pool_client
@json_option
def status(sweep: str, client: Client, as_json: bool) -> None:
    """Tell how far a sweep is, which jobs failed, and why it waits.

    SWEEP is an id, a unique beginning of one, or a name.
    """
    found = client.status(sweep)
    failures = client.failures(found.id, limit=LISTED_FAILURES)
    reasons = [wait.reason for wait in client.waits(found.id)]
    if as_json:
        print_json({**plain(found), "waiting": reasons, "failures": plain(failures)})
        return
    for name, text in _facts(found) + [("waiting", one_line(reason)) for reason in reasons]:
        click.echo(f"{name:<10} {text}")
    print_failures(failures, found.id)


@click.command(
    cls=SectionCommand,
    epilog=examples("seedbed watch shapes-study", "seedbed watch shapes-study --json"),
)
@sweep_argument
@click.option(
    "--timeout",
    type=Number(0),
    default=math.inf,
    metavar="SECONDS",
    help="exit 3 after this long",
)
@pool_client
@json_option
def watch(sweep: str, timeout: float, client: Client, as_json: bool) -> int:
    """Follow a sweep until it is done or cancelled.

    With --json, prints a line each time something has changed.
    """
    sweep_id = client.find(sweep)
    notes = WaitNotes(Waits(client.queue, client.layout(sweep_id)), quiet=as_json)
    last = None
    with following(quiet=as_json) as show:
        for found in client.watch(sweep_id, timeout_seconds=timeout):
            show(found)
            news = (found, [wait.reason for wait in notes.look(found)])
            if as_json and news != last:
                print_json({**plain(found), "waiting": news[1]})
            last = news
    print_failures(client.failures(sweep_id), sweep_id)
    return verdict(found)


@click.command(
    cls=SectionCommand,
    epilog=examples("seedbed ls", "seedbed ls --json"),
)
@pool_client
@json_option
def ls(client: Client, as_json: bool) -> None:
    """List the pool's sweeps, newest first."""
    sweeps = client.sweeps()
    if as_json:
        print_json(sweeps)
        return
    if not sweeps:
        say("no sweeps; 'seedbed submit' or 'seedbed run' makes one")
        return
    print_table(
        ("SWEEP", "STATE", "DONE", "FAILED", "TOTAL", "OWNER"),
        [
            (
                found.id,
                found.state,
                f"{found.done:,}",
                f"{found.dead:,}",
                f"{found.total:,}",
                one_line(found.owner),
            )
            for found in sweeps
        ],
    )


@click.command(
    cls=SectionCommand,
    epilog=examples("seedbed pause shapes-study", "seedbed pause shapes-study --json"),
)
@sweep_argument
@pool_client
@json_option
def pause(sweep: str, client: Client, as_json: bool) -> None:
    """Hand out no more jobs of a sweep; what is being rendered is finished."""
    _change(Client.pause, sweep, client, as_json)


@click.command(
    cls=SectionCommand,
    epilog=examples("seedbed resume shapes-study", "seedbed resume shapes-study --json"),
)
@sweep_argument
@pool_client
@json_option
def resume(sweep: str, client: Client, as_json: bool) -> None:
    """End a pause."""
    _change(Client.resume, sweep, client, as_json)


@click.command(
    cls=SectionCommand,
    epilog=examples("seedbed cancel shapes-study", "seedbed cancel shapes-study --json"),
)
@sweep_argument
@pool_client
@json_option
def cancel(sweep: str, client: Client, as_json: bool) -> None:
    """Render no more of a sweep; its images stay, and submitting it again goes on."""
    _change(Client.cancel, sweep, client, as_json)


@click.command(
    cls=SectionCommand,
    epilog=examples("seedbed delete shapes-study", "seedbed delete shapes-study --json"),
)
@sweep_argument
@pool_client
@json_option
def delete(sweep: str, client: Client, as_json: bool) -> None:
    """Forget a sweep in the queue; its images stay in storage."""
    sweep_id = client.delete(sweep)
    if as_json:
        print_json({"sweep_id": sweep_id, "deleted": True})
    else:
        say(f"{sweep_id}: forgotten; its images stay in storage")


def print_failures(failures: list[JobFailure], sweep_id: str) -> None:
    """The failed jobs, a line each, and what to do about them."""
    for failure in failures[:SHOWN_FAILURES]:
        kind = "failed" if failure.dead else "to be tried again"
        tries = f"{failure.attempts} {'try' if failure.attempts == 1 else 'tries'}"
        say(f"job {failure.index}: {kind} after {tries}: {one_line(failure.reason)}")
    if len(failures) > SHOWN_FAILURES:
        say(f"... and more; 'seedbed failures {sweep_id}' lists those that were given up")


def verdict(status: SweepStatus) -> int:
    """The exit code of a wait that has come to an end."""
    return 0 if status.done == status.total else 1


def _change(verb: Callable[[Client, str], str], sweep: str, client: Client, as_json: bool) -> None:
    sweep_id = client.find(sweep)
    state = verb(client, sweep_id)
    if as_json:
        print_json({"sweep_id": sweep_id, "state": state})
    else:
        say(f"{sweep_id}: {state}")


def _facts(status: SweepStatus) -> list[tuple[str, str]]:
    """Name and text of each line of ``status``."""
    reused = f" ({status.reused:,} were in storage already)" if status.reused else ""
    facts = [
        ("sweep", status.id),
        ("state", status.state),
        *([("refused", one_line(status.refused))] if status.refused else []),
        ("owner", one_line(status.owner)),
        ("done", f"{status.done:,} of {status.total:,}{reused}, {size_text(status.bytes)}"),
    ]
    counts = {
        "rendering": status.leased,
        "pending": status.pending,
        "failed": status.dead,
        "flagged": status.flagged,
        "cancelled": status.cancelled,
    }
    return facts + [(name, f"{count:,}") for name, count in counts.items() if count]
