"""A worker that is started again whenever it ends, as Kubernetes or systemd would.

Each life is a fork of a process that has imported everything, so that the next one is there within
a second.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from importlib import import_module
from typing import NoReturn

from worker import __main__ as entry

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


def live_again() -> None:
    """Start one life after another, until one ends well: after SIGTERM."""
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


def live() -> NoReturn:
    """One life of the worker."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os._exit(entry.main())
