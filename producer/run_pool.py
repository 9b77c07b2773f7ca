"""The pool that ``seedbed run`` works on: the configured one, or an embedded stack for its time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from producer.client import Client
from producer.models import Weights
from producer.stack import Stack
from producer.watching import ENDED
from shared.errors import InvalidSweep
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.queue import SweepStatus

FINALISE_SECONDS = 20.0
"""How long a run waits, all images made, for a worker to write the sweep's end."""


class RunPool:
    """A context: on leaving it, whatever it has started is stopped.

    Attributes:
        client: Speaks to the pool.
        embedded: Whether it is a stack on this machine.
    """

    def __init__(self, settings: Settings, *, worker_args: Sequence[str] = ()) -> None:
        self.embedded = settings.redis_url is None
        self.client: Client
        self._settings = settings
        self._worker_args = tuple(worker_args)
        self._started = ExitStack()
        self._stacks: list[Stack] = []

    def __enter__(self) -> Self:
        """Connect, or start Redis and S3.

        Raises:
            ServiceError: They can't be started.
        """
        settings = self._start_stack().settings if self.embedded else self._settings
        self.client = self._started.enter_context(Client(settings))
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    def start_workers(self, weights: Sequence[Weights]) -> None:
        """See that an embedded stack has a worker for these weights; it loads them meanwhile.

        Raises:
            InvalidSweep: One worker can't have all of them.
        """
        variants = {item.variant for item in weights}
        if len(variants) > 1:
            raise InvalidSweep(
                "variant has several values: an embedded stack has one worker with one variant; "
                "run a sweep for each",
                field="variant",
            )
        arguments = [f"--variant={variant}" for variant in variants if variant is not None]
        arguments += dict.fromkeys(part for item in weights for part in item.parts)
        models = list(dict.fromkeys(item.option for item in weights))
        self._start_stack(models, [*arguments, *self._worker_args])

    def follow(self, sweep_id: str) -> Iterator[SweepStatus]:
        """The sweep's status again and again, until there is nothing more to wait for.

        Raises:
            SeedbedError: The stack or its worker has ended; the message has its last words.
        """
        complete_at: float | None = None
        for status in self.client.watch(sweep_id):
            yield status
            if status.state in ENDED:
                return
            for stack in self._stacks:
                stack.check()
            if status.state != "finalising":
                complete_at = None
            elif complete_at is None:
                complete_at = time.monotonic()
            elif time.monotonic() - complete_at > FINALISE_SECONDS:
                return

    def _start_stack(self, models: Sequence[str] = (), arguments: Sequence[str] = ()) -> Stack:
        stack = Stack(self._settings.data_dir, base=self._settings)
        self._started.callback(stack.stop)
        stack.start(worker_models=models, worker_args=arguments)
        self._stacks.append(stack)
        return stack
