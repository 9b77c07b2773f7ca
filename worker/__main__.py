"""``python -m worker``: the process that `seedbed worker` becomes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from shared.errors import ModelError, SeedbedError
from shared.settings import Settings
from shared.worker_options import VARIABLE, WorkerOptions


def main(arguments: Sequence[str] = ()) -> int:
    """Run a worker from the environment that `seedbed worker` prepares.

    Args:
        arguments: None; ``show`` or ``show-json``: tell what would be in force, and end; or
            ``verify``: render what standard input asks for, compare it with storage, and end.

    Returns:
        The exit code.
    """
    from shared.logs import configure_logging

    configure_logging(os.environ.get("SEEDBED_LOG_LEVEL", "INFO"))
    try:
        if VARIABLE not in os.environ:
            print("seedbed worker: start it with 'seedbed worker --model MODEL'", file=sys.stderr)
            return 2
        from worker.process import WorkerProcess

        options = WorkerOptions.from_json(os.environ[VARIABLE])
        if "verify" in arguments:
            from worker.verifying import verify

            verify(Settings.resolve({}, os.environ), options, sys.stdin.read())
            return 0
        if arguments:
            from worker.showing import show

            show(options, as_json="show-json" in arguments)
            return 0
        process = WorkerProcess(Settings.resolve({}, os.environ), options)
    except SeedbedError as exc:
        who = "error" if "verify" in arguments else "seedbed worker"
        print(f"{who}: {exc}", file=sys.stderr, flush=True)
        return 2 if isinstance(exc, ModelError) else exc.exit_code
    except KeyboardInterrupt:
        return 130
    return process.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
