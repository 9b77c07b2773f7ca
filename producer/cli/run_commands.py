"""``run``, ``up`` and ``down``: the embedded stack, and a sweep from its file to a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from producer.cli.help import SectionCommand, examples
from producer.cli.numbers import Whole
from producer.cli.output import one_line, say
from producer.cli.progress import WaitNotes, counting, following
from producer.cli.settings_options import Flags, given_settings, pool_options, setting_options
from producer.cli.submit_commands import describe
from producer.cli.sweep_commands import print_failures, verdict
from producer.cli.sweep_options import Values, make_sweep, sweep_options
from producer.like import refine
from producer.model_folder import (
    absolute_model,
    absolute_part,
    check_model_folder,
    check_part,
)
from producer.models import Weights, weights_of
from producer.naming import folder_of
from producer.waiting import Waits
from producer.writing import check_folder
from shared.errors import InvalidSettings, ModelError
from shared.fields import DEMO_MODEL
from shared.worker_options import MOST_AT_ONCE, split_model

if TYPE_CHECKING:
    from producer.run_pool import RunPool
    from shared.queue import SweepStatus
    from shared.sweep import Sweep

SHEET_PAGES = 4
"""Contact sheets that a run draws; ``seedbed grid`` draws more."""


def worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what can be said of the embedded stack's worker."""
    batch = click.option("--batch-size", type=Whole(1, MOST_AT_ONCE), help="images a batch")
    device = click.option("--device", help="cuda, mps or cpu; the best there is if not given")
    return batch(device(command))


@click.command(
    cls=SectionCommand,
    epilog=examples(
        'seedbed run -p "a red circle" -p "a blue star" --seed 0..7 --guidance-scale 1,4',
        "seedbed run sweep.yaml --out images",
    ),
)
@sweep_options
@click.option("--out", type=click.Path(path_type=Path), help="folder (default: the sweep's name)")
@click.option("--file-name", metavar="TEMPLATE", help="such as '{index:06}_seed={seed}'")
@click.option("--retry", is_flag=True, help="give jobs that failed for good another chance")
@worker_options
@pool_options
def run(
    values: Values,
    flags: Flags,
    out: Path | None,
    file_name: str | None,
    retry: bool,
    device: str | None,
    batch_size: int | None,
) -> int:
    """Render a sweep, here and now, into a folder.

    FILE is YAML or JSON, '-' standard input; options add to it and win over it.
    Uses the configured pool, or starts an embedded one (Redis, S3 and a worker on this machine)
    and stops it in the end. Images that storage holds are not rendered again: a run that was
    interrupted goes on, and one that was complete is over within seconds.
    """
    from producer.run_pool import RunPool

    sweep = make_sweep(refine({"model": DEMO_MODEL}, values))
    settings = given_settings(flags)
    folder = out or folder_of(sweep.manifest)
    check_folder(folder)
    if settings.redis_url is not None:
        _refuse_worker_options(device, batch_size)
    weights = weights_of(sweep.layout)
    if settings.redis_url is None:
        for item in weights:
            check_model_folder(item.model)
            for name in filter(None, [item.vae]):
                check_part("vae", name)
            for name in item.loras:
                check_part("loras", name)
    try:
        with RunPool(settings, worker_args=worker_args(device, batch_size)) as pool:
            _check_names(pool, sweep, file_name)
            status, missing = _render(pool, sweep, weights, retry)
            complete = True
            if status.done or not missing:
                complete = _collect(pool, sweep, folder, file_name)
            failures = pool.client.failures(sweep.id)
    except KeyboardInterrupt:
        say("stopped; nothing is lost: run it again and it goes on")
        raise
    print_failures(failures, sweep.id)
    if any(failure.dead for failure in failures):
        say("'seedbed run --retry ...' gives them another chance")
    if missing:
        raise ModelError("; ".join(missing))
    return verdict(status) if complete else 1


@click.command(
    cls=SectionCommand,
    epilog=examples("seedbed up", "seedbed up --model runwayml/stable-diffusion-v1-5 --detach"),
)
@click.option("--model", "models", multiple=True, help="what the worker serves (default: demo)")
@click.option("--detach", is_flag=True, help="return when it runs; 'seedbed down' ends it")
@click.option("--vae", "vaes", multiple=True, help="a VAE that jobs may ask for; repeatable")
@click.option("--lora", "loras", multiple=True, help="a LoRA that jobs may ask for; repeatable")
@click.option("--allow", multiple=True, help="pattern of more of all three, such as 'owner/*'")
@click.option(
    "--metrics-port",
    type=Whole(0, 65535),
    help="serve the pool's metrics there; 9640, or any free one where that is taken, if not given",
)
@worker_options
@setting_options("pool", "prefix", "owner", "data_dir")
def up(
    models: tuple[str, ...],
    vaes: tuple[str, ...],
    loras: tuple[str, ...],
    allow: tuple[str, ...],
    metrics_port: int | None,
    detach: bool,
    device: str | None,
    batch_size: int | None,
    flags: Flags,
) -> None:
    """Keep a pool running on this machine: Redis, S3 and a worker.

    Every other command in this folder uses it, until Ctrl-C or 'seedbed down'.
    """
    from producer.services.metrics_process import pick_port
    from producer.stack import Stack

    settings = given_settings(flags)
    chosen = tuple(map(absolute_model, models)) or (DEMO_MODEL,)
    for model in chosen:
        check_model_folder(split_model(model)[0])
    for field, names in (("vae", vaes), ("loras", loras)):
        for name in names:
            check_part(field, absolute_part(name))
    if settings.redis_url is not None:
        say("note: SEEDBED_REDIS_URL is set, so other commands use that pool, not this one")
    stack = Stack(settings.data_dir, base=settings)
    arguments = worker_args(device, batch_size)
    arguments += [f"--vae={absolute_part(name)}" for name in vaes]
    arguments += [f"--lora={absolute_part(name)}" for name in loras]
    arguments += [f"--allow={pattern}" for pattern in allow]
    port = pick_port(metrics_port) if Stack.running(settings.data_dir) is None else None
    with stack.start(worker_models=chosen, worker_args=arguments, metrics_port=port, detach=detach):
        say(f"Redis and S3 run; images are files under {stack.data_dir / 'objects'}")
        if port is not None:
            say(f"metrics of the pool are on http://127.0.0.1:{port}/metrics")
        say(f"a worker is loading {', '.join(chosen)}; logs are in {stack.logs}")
        if detach:
            say("'seedbed down' ends it")
        else:
            say("Ctrl-C ends it")
            stack.serve_forever()


@click.command(
    cls=SectionCommand,
    epilog=examples("seedbed down", "seedbed down --data /var/lib/seedbed"),
)
@setting_options("data_dir")
def down(flags: Flags) -> None:
    """End the pool that 'seedbed up' keeps running here; what is stored stays."""
    from producer.stack import Stack

    data_dir = given_settings(flags).data_dir
    ended = Stack.shut_down(data_dir)
    say(f"the stack in {data_dir} {'has ended' if ended else 'was not running'}")


def worker_args(device: str | None, batch_size: int | None) -> list[str]:
    """Arguments of ``seedbed worker``."""
    given = {"--device": device, "--batch-size": batch_size}
    return [f"{option}={value}" for option, value in given.items() if value is not None]


def _refuse_worker_options(device: str | None, batch_size: int | None) -> None:
    for option, value in (("--device", device), ("--batch-size", batch_size)):
        if value is not None:
            raise InvalidSettings(
                f"{option} is of the worker that a run starts, and SEEDBED_REDIS_URL names a pool "
                f"with workers of its own: leave {option} out, or set SEEDBED_REDIS_URL= for a run "
                f"on this machine"
            )


def _render(
    pool: RunPool, sweep: Sweep, weights: tuple[Weights, ...], retry: bool
) -> tuple[SweepStatus, list[str]]:
    """Submit, and wait until every image is made or given up.

    Returns:
        The last status; and why the run's own worker can't go on, if so.
    """
    client = pool.client
    submission = client.submit(sweep)
    say(f"{sweep.id}: {describe(submission)}")
    if retry:
        client.retry(sweep.id)
    if submission.state == "paused":
        client.resume(sweep.id)
        say("it was paused, and is resumed")
    status = client.status(sweep.id)
    if status.done + status.dead == status.total:
        return status, []
    if pool.embedded:
        pool.start_workers(weights)
    notes = WaitNotes(Waits(client.queue, sweep.layout), ends=pool.embedded)
    waiting = "loading the model" if pool.embedded else "waiting for a worker"
    with following(waiting=waiting) as show:
        for status in pool.follow(sweep.id):
            show(status)
            waits = notes.look(status)
            if pool.embedded and notes.stuck:
                return status, [wait.reason for wait in waits]
    return status, []


def _check_names(pool: RunPool, sweep: Sweep, file_name: str | None) -> None:
    """Refuse a bad template before anything is rendered."""
    from producer.naming import make_namer
    from producer.results import SweepResults

    make_namer(SweepResults(sweep.manifest, sweep.layout, {}, pool.client.storage), file_name)


def _collect(pool: RunPool, sweep: Sweep, folder: Path, file_name: str | None) -> bool:
    """Bring the images and draw them on a sheet; returns whether all that are done could be had."""
    from producer.grid import CONTACT_SHEET, GridOptions

    with counting("fetching") as move:
        fetched = pool.client.fetch(sweep.id, folder, name=file_name, progress=move)
    for problem in fetched.problems:
        say(one_line(f"image {problem.title} {problem.reason}"))
    count = fetched.written + fetched.skipped
    say(f"{count:,} {'image' if count == 1 else 'images'} in {folder}{'/' if folder.name else ''}")
    options = GridOptions(max_pages=SHEET_PAGES)
    drawn = pool.client.grid(sweep.id, folder / CONTACT_SHEET, options=options)
    for note in drawn.notes:
        say(f"note: {note}")
    for page in drawn.pages:
        say(f"contact sheet: {page.path}")
    return not (fetched.missing or fetched.damaged)
