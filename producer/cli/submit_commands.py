"""``submit`` and ``plan``: a sweep goes to the pool, or on paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from producer.cli.examples import examples
from producer.cli.output import print_json, say
from producer.cli.settings_options import Flags, find_pool, pool_options
from producer.cli.sweep_options import Values, make_sweep, sweep_options
from producer.client import Client

if TYPE_CHECKING:
    from producer.submission import Submission


@click.command(
    epilog=examples(
        "seedbed submit sweep.yaml --priority 10",
        'seedbed submit --model demo -p "a red circle" --seed 0..99 --json',
    )
)
@sweep_options
@pool_options
@click.option("--json", "as_json", is_flag=True, help="print the outcome as JSON")
def submit(values: Values, flags: Flags, as_json: bool) -> None:
    """Queue a sweep on a pool, and return at once.

    Submitting a sweep again is harmless: one that is under way goes on, a cancelled one starts
    again from what storage holds, and a finished one is checked against storage.
    """
    sweep = make_sweep(values)
    submission = Client(find_pool(flags)).submit(sweep)
    if as_json:
        print_json(submission)
        return
    say(describe(submission))
    click.echo(submission.sweep_id)


def describe(submission: Submission) -> str:
    """One sentence for people."""
    jobs = f"{submission.total:,} {'image' if submission.total == 1 else 'images'}"
    said = {
        "created": f"queued {jobs}",
        "unchanged": f"under way already ({submission.state}), {jobs}",
        "restarted": f"queued {jobs} again",
        "done": f"all of {jobs} done already",
        "repaired": f"{submission.missing:,} of {jobs} were gone from storage, queued again",
    }[submission.outcome]
    if submission.reused:
        said += f", {submission.reused:,} of them in storage already"
    return said
