"""``submit`` and ``plan``: a sweep goes to the pool, or on paper."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from producer.cli.help import SectionCommand, examples
from producer.cli.numbers import Number
from producer.cli.output import (
    json_option,
    one_line,
    plain,
    print_json,
    say,
    size_text,
    time_text,
)
from producer.cli.settings_options import Flags, find_pool, pool_options
from producer.cli.sweep_options import Values, make_sweep, sweep_options
from producer.client import Client
from shared.errors import NoPool, QueueUnavailable
from shared.fields import FIELDS

if TYPE_CHECKING:
    from producer.plan import Measured, ModelPlan, Plan
    from producer.plan_storage import StorageCheck
    from producer.submission import Submission
    from shared.sweep import Sweep


@click.command(
    cls=SectionCommand,
    epilog=examples(
        "seedbed submit sweep.yaml --priority 10",
        'seedbed submit --model demo -p "a red circle" --seed 0..99 --json',
    ),
)
@sweep_options
@pool_options
@json_option
def submit(values: Values, flags: Flags, as_json: bool) -> None:
    """Queue a sweep on a pool, and return at once.

    FILE is YAML or JSON, '-' standard input; options add to it and win over it.
    Submitting a sweep again is harmless: one that is under way goes on, a cancelled one starts
    again from what storage holds, and a finished one is checked against storage.
    """
    sweep = make_sweep(values)
    with Client(find_pool(flags)) as client:
        submission = client.submit(sweep)
    if as_json:
        print_json(submission)
        return
    say(describe(submission))
    click.echo(submission.sweep_id)


@click.command(
    cls=SectionCommand,
    epilog=examples(
        "seedbed plan sweep.yaml",
        'seedbed plan --model demo -p "a red circle" --seed 0..999 --price-per-hour 2.5 --json',
    ),
)
@sweep_options
@pool_options
@click.option("--price-per-hour", type=Number(0), help="of one worker")
@click.option("--check-storage", is_flag=True, help="count the images that exist already")
@json_option
def plan(
    values: Values,
    flags: Flags,
    price_per_hour: float | None,
    check_storage: bool,
    as_json: bool,
) -> None:
    """Reckon what a sweep would come to: jobs, batches, bytes, time and money.

    FILE is YAML or JSON, '-' standard input; options add to it and win over it.
    Writes nothing. Time and money need a pool whose workers have rendered the like before.
    --check-storage needs a pool, too: which image a job makes depends on the weights, which a
    worker or an earlier sweep of the model tells.
    """
    from producer.plan import make_plan

    sweep = make_sweep(values)
    made = make_plan(sweep, _measured(flags), price_per_hour=price_per_hour)
    checked = _checked(flags, sweep) if check_storage else None
    if as_json:
        print_json(plain(made) | ({"storage": plain(checked)} if checked else {}))
        return
    for name, text in plan_lines(made):
        click.echo(f"{name:<10} {text}")
    for text in () if checked is None else storage_lines(checked):
        click.echo(f"{'storage':<10} {text}")
    for warning in made.warnings:
        say(f"warning: {warning}")


def _measured(flags: Flags) -> Measured:
    """The pool's figures, or none where there is no pool or it does not answer."""
    from producer.plan import Measured, ask_pool

    try:
        with Client(find_pool(flags)) as client:
            return ask_pool(client)
    except NoPool:
        return Measured()
    except QueueUnavailable as exc:
        say(f"note: the pool was not asked for rates: {exc}")
        return Measured()


def _checked(flags: Flags, sweep: Sweep) -> StorageCheck:
    from producer.plan_storage import check_storage

    with Client(find_pool(flags)) as client:
        return check_storage(client, sweep)


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
    if submission.outcome == "done" and not submission.checked:
        said += " (not checked against storage)"
    if submission.reused:
        said += f", {submission.reused:,} of them in storage already"
    return said


def plan_lines(made: Plan) -> list[tuple[str, str]]:
    """A plan for people: name and text of each line."""
    axes = " x ".join(f"{axis.values:,} {'+'.join(axis.fields)}" for axis in made.axes)
    size = f"{made.batch_size}{'' if made.batch_measured else ', not measured'}"
    lines = [
        ("sweep", made.sweep_id),
        ("jobs", f"{made.jobs:,}{' = ' + axes if axes else ''}"),
        *(("model", _model_line(item)) for item in made.models),
        ("lanes", f"{made.lanes:,} (weights and size)"),
        ("recipes", f"{made.recipes:,} (ways of sampling), {made.blocks:,} blocks"),
        ("batches", f"{made.batches:,} of up to {size}"),
        ("manifest", size_text(made.manifest_bytes)),
        ("images", f"about {size_text(made.image_bytes)}"),
        ("time", "unknown: no rates yet" if made.seconds is None else time_text(made.seconds)),
    ]
    if made.money is not None:
        lines.append(("money", f"{made.money:,.2f}"))
    lines += [("job", _job_line(job)) for job in made.first]
    if made.jobs > len(made.first) + len(made.last):
        lines.append(("", "..."))
    return lines + [("job", _job_line(job)) for job in made.last]


def storage_lines(checked: StorageCheck) -> list[str]:
    """What exists already, for people; a line each."""
    about = "" if checked.exact else "about "
    lines = []
    if checked.stored + checked.missing:
        exist = "image exists" if checked.stored == 1 else "images exist"
        lines.append(
            f"{about}{checked.stored:,} {exist} already, {about}{checked.missing:,} to render"
        )
    for item in checked.weights:
        model = one_line(item.model)
        lines.append(
            f"weights of {model}: {one_line(item.weights)}, as {item.source} has them"
            if item.weights is not None
            else f"weights of {model} are not known: no worker has it loaded and no earlier sweep "
            f"used it; 'seedbed worker --model {model}' makes them known"
        )
    if checked.unknown:
        jobs = "job" if checked.unknown == 1 else "jobs"
        lines.append(f"no telling for {checked.unknown:,} {jobs} of unknown weights")
    if not checked.reuse:
        lines.append("reuse is off: all are rendered again, whatever exists")
    return lines


def _model_line(item: ModelPlan) -> str:
    workers = "" if item.workers is None else f", {item.workers} workers"
    return f"{one_line(item.model)}: {item.jobs:,} jobs{workers}"


def _job_line(job: Mapping[str, object]) -> str:
    """What a job's fields say beyond their defaults."""
    said = {
        name: value
        for name, value in job.items()
        if name not in ("index", "model") and value != FIELDS[name].default
    }
    text = ", ".join(
        f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in said.items()
    )
    return one_line(f"{job['index']}: {text}")
