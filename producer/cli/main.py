"""The command line: one group, and the boundary where errors become one line."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from producer.cli.capacity_command import capacity
from producer.cli.doctor_command import doctor
from producer.cli.failure_commands import failures, retry
from producer.cli.find_command import find
from producer.cli.help import HELP_NAMES, OrderedGroup, examples
from producer.cli.image_commands import fetch, grid, show
from producer.cli.metrics_command import metrics
from producer.cli.models_command import models
from producer.cli.output import one_line
from producer.cli.repair_command import repair
from producer.cli.run_commands import down, run, up
from producer.cli.schema_command import schema
from producer.cli.submit_commands import plan, submit
from producer.cli.sweep_commands import cancel, delete, ls, pause, resume, status, watch
from producer.cli.usage import usage_sentence
from producer.cli.verify_command import verify
from producer.cli.worker_command import worker
from shared.errors import SeedbedError
from shared.logs import configure_logging
from shared.version import own_version

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


@click.group(
    cls=OrderedGroup,
    context_settings={"help_option_names": HELP_NAMES, "max_content_width": 100},
    epilog=examples(
        'seedbed run -p "a red circle" --seed 0..7 --guidance-scale 1,4,7.5',
        "seedbed run sweep.yaml",
    ),
)
@click.version_option(own_version(), prog_name="seedbed")
@click.option("--debug", is_flag=True, help="log everything, and show tracebacks")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Render prompt sweeps on a pool of GPU workers."""
    context.call_on_close(configure_logging("DEBUG" if debug else "WARNING"))


for _command in (
    run,
    up,
    down,
    plan,
    submit,
    status,
    watch,
    ls,
    pause,
    resume,
    cancel,
    failures,
    retry,
    repair,
    verify,
    delete,
    grid,
    fetch,
    find,
    show,
    models,
    capacity,
    worker,
    metrics,
    doctor,
    schema,
):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: the console script."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_exit_code(given))


def _exit_code(arguments: list[str]) -> int:
    """Errors become one line on stderr and a code; a traceback too with --debug."""
    try:
        code: Any = cli.main(arguments, prog_name="seedbed", standalone_mode=False)
        sys.stdout.flush()
    except NoArgsIsHelpError as exc:
        exc.show()
        return exc.exit_code
    except click.ClickException as exc:
        click.echo(f"error: {usage_sentence(exc)}", err=True)
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more to flush
        return 1
    except Exception as exc:  # noqa: BLE001 - the boundary: nobody else would report it
        if "--debug" in arguments:
            traceback.print_exc()
        if isinstance(exc, SeedbedError):
            click.echo(f"error: {_one_line(exc)}", err=True)
            return exc.exit_code
        click.echo(
            f"error: this is a bug in seedbed: {type(exc).__name__}: {_one_line(exc)} "
            f"('seedbed --debug ...' shows where)",
            err=True,
        )
        return 1
    return code if isinstance(code, int) else 0


def _one_line(exc: Exception) -> str:
    return one_line(" ".join(str(exc).split()))


if __name__ == "__main__":
    main()
