"""``python -m worker``: the process that `seedbed worker` becomes."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from shared.errors import ModelError, SeedbedError
from shared.metrics_server import MetricsServer
from shared.settings import Settings
from shared.worker_options import VARIABLE, WorkerOptions
from worker.health import Health
from worker.metrics import WorkerMetrics

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] = ()) -> int:
    """Run a worker from the environment that `seedbed worker` prepares.

    Args:
        arguments: None; ``show`` or ``show-json``: tell what would be in force, and end; or
            ``verify``: render what standard input asks for, compare it with storage, and end.

    Returns:
        The exit code.
    """
    from shared.logs import configure_logging

    if VARIABLE not in os.environ:
        print("seedbed worker: start it with 'seedbed worker --model MODEL'", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        try:
            configure_logging(os.environ.get("SEEDBED_LOG_LEVEL", "INFO"))
            options = WorkerOptions.from_json(os.environ[VARIABLE])
            if "verify" in arguments:
                with no_collecting():
                    from worker.verifying import verify

                verify(Settings.resolve({}, os.environ), options, sys.stdin.read())
                return 0
            if arguments:
                with no_collecting():
                    from worker.showing import show

                    show(options, as_json="show-json" in arguments)
                return 0
            settings = Settings.resolve({}, os.environ)

            health = Health()
            metrics = WorkerMetrics(health)
            if options.metrics_port is not None:
                _answer(stack, options, health, metrics)

            # importing torch takes seconds, loading a model minutes: probes are answered meanwhile
            with no_collecting():
                from worker.process import WorkerProcess

                process = WorkerProcess(settings, options, health=health, metrics=metrics)
        except SeedbedError as exc:
            who = "error" if "verify" in arguments else "seedbed worker"
            print(f"{who}: {exc}", file=sys.stderr, flush=True)
            return 2 if isinstance(exc, ModelError) else exc.exit_code
        except KeyboardInterrupt:
            return 130
        return process.run()


@contextmanager
def no_collecting() -> Iterator[None]:
    """Leave Python's garbage for later: the libraries' million objects are there to stay.

    Looking through them again and again is a fifth of a start's computing.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _answer(
    stack: ExitStack, options: WorkerOptions, health: Health, metrics: WorkerMetrics
) -> None:
    """Serve metrics and probes until the stack is closed."""
    server = MetricsServer(
        host=options.metrics_host,
        port=options.metrics_port or 0,
        registry=metrics.registry,
        healthy=health.alive_fault,
        ready=health.ready_fault,
    )
    stack.callback(server.close)
    logger.info("metrics served", extra={"host": options.metrics_host, "port": server.port})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
