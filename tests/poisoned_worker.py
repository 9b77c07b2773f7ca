"""A real worker whose engine dies or hangs on certain prompts, started again whenever it ends.

``python -m tests.poisoned_worker`` takes what ``python -m worker`` takes. Each life is a fork of a
process that has imported everything, so that the next one is there within a second.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from shared.job import Job
from worker import __main__ as entry
from worker.engine import StockEngine

KILLER = "a killer"
"""Prompt of jobs that kill the process they are rendered in."""
SLEEPER = "a sleeper"
"""Prompt of jobs that never end."""
PR_SET_PDEATHSIG = 1
IMPORTED = (
    "celery.apps.worker",
    "celery.concurrency.thread",
    "celery.worker.consumer",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "kombu.transport.redis",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.tokenization_clip",
)
"""What a worker imports when it needs it: most of what a life's start takes."""


def poison(engine: type[StockEngine]) -> None:
    """Have batches with poison in them end their process, or never end."""
    render_batch = engine._render_batch

    def poisoned(self: StockEngine, jobs: Sequence[Job], *rest: Any) -> Any:
        prompts = {job.prompt for job in jobs}
        if KILLER in prompts:
            os.kill(os.getpid(), signal.SIGKILL)
        while SLEEPER in prompts:
            time.sleep(60)
        return render_batch(self, jobs, *rest)

    engine._render_batch = poisoned  # type: ignore[method-assign]


def live() -> NoReturn:
    """One life of the worker."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os._exit(entry.main())


def main() -> None:
    """Start one life after another, until SIGTERM."""
    poison(StockEngine)
    for name in IMPORTED:
        import_module(name)
    supervisor = os.getpid()
    while True:
        child = os.fork()
        if child == 0:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() == supervisor:
                live()
            os._exit(1)
        signal.signal(signal.SIGTERM, lambda *_, pid=child: os.kill(pid, signal.SIGTERM))
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        print(f"life of {child} ended with {code}", file=sys.stderr, flush=True)
        if code == 0:
            return


if __name__ == "__main__":
    main()
