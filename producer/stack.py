"""The embedded stack: Redis, S3 and a worker on this machine, for as long as somebody wants it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from producer.services.data_folder import prepare_data_folder
from producer.services.keeper_process import (
    HURRY_SECONDS,
    LOOK_SECONDS,
    STOP_SECONDS,
    KeeperProcess,
    failure,
)
from producer.services.plan import Plan
from producer.services.state import FolderLock, State
from shared.errors import SeedbedError, ServiceError
from shared.settings import Settings

START_SECONDS = 90.0
"""For a stack to start, another's end that is waited for included."""

WORKER_COMMAND = (sys.executable, "-P", "-m", "producer.cli.main", "worker")
"""`seedbed worker`; -P keeps folders of the current directory from being taken for our packages."""


class Stack:
    """A stack in a data folder, started by us or joined.

    Processes of the stack belong to a keeper process (``producer.services.keeper``), which ends
    them in order as soon as the process that started it lets go or dies, by whatever signal.

    As a context manager it stops, on leaving, what it has started.

        with Stack(Path("seedbed-data")).start(worker_models=["demo"]) as stack:
            client = Client(stack.settings)

    Args:
        data_dir: Folder for everything the stack keeps; made if it is not there.
        base: Pool, prefix and owner are taken from it.
        worker_command: What starts a worker, without its arguments.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        base: Settings | None = None,
        worker_command: Sequence[str] = WORKER_COMMAND,
    ) -> None:
        self.data_dir = Path(os.path.abspath(data_dir))
        self._base = base or Settings()
        self._worker_command = tuple(worker_command)
        self._state: State | None = None
        self._keeper: KeeperProcess | None = None
        self._use: FolderLock | None = None
        self._needs_its_worker = True
        self._metrics_port: int | None = None
        self.joined = False
        """Somebody else keeps this stack: ``stop`` leaves it alone."""
        self.left_running = False
        """After ``stop``: others use it or made it stay; it ends with the last, or is shut down."""

    @classmethod
    def running(cls, data_dir: Path, *, base: Settings | None = None) -> Stack | None:
        """The stack that somebody keeps in ``data_dir``, or None."""
        stack = cls(data_dir, base=base)
        state = State.read(stack.data_dir)
        if state is None or state.stopping:
            return None
        stack._state = state
        stack.joined = True
        return stack

    @classmethod
    def shut_down(cls, data_dir: Path) -> bool:
        """End the stack in ``data_dir``, whoever keeps it; False: there was none.

        Ctrl-C while it drains ends it at once.

        Raises:
            ServiceError: It does not end.
        """
        state = State.read(Path(os.path.abspath(data_dir)))
        if state is None:
            return False
        state.keeper.send(signal.SIGTERM)
        try:
            gone = _wait_until(lambda: not state.keeper.alive(), STOP_SECONDS)
        except KeyboardInterrupt:
            state.keeper.send(signal.SIGTERM)
            _wait_until(lambda: not state.keeper.alive(), HURRY_SECONDS)
            raise
        if not gone:
            state.keeper.send(signal.SIGTERM)
            if not _wait_until(lambda: not state.keeper.alive(), HURRY_SECONDS):
                raise ServiceError(
                    f"the stack in {data_dir} does not end: look at its logs, "
                    f"then kill process {state.keeper.pid}"
                )
        return True

    @property
    def settings(self) -> Settings:
        """How to reach it, credentials included."""
        state = self._known()
        return self._base.with_values(
            redis_url=state.redis_url,
            broker_url=None,
            bucket=state.bucket,
            prefix=state.prefix,
            pool=state.pool,
            s3_endpoint_url=state.s3_endpoint_url,
            s3_region="us-east-1",
            access_key=state.access_key,
            secret_key=state.secret_key,
            data_dir=self.data_dir,
        )

    @property
    def worker_models(self) -> tuple[str, ...]:
        """What the stack's own worker was started for."""
        return self._known().worker_models

    @property
    def logs(self) -> Path:
        """Folder of ``redis.log``, ``s3.log``, ``worker.log`` and the keeper's ``stack.log``."""
        return self.data_dir / "logs"

    def start(
        self,
        *,
        worker_models: Sequence[str] = (),
        worker_args: Sequence[str] = (),
        metrics_port: int | None = None,
        detach: bool = False,
    ) -> Self:
        """Start what is not running yet; a stack that is there is joined, and stays till we stop.

        Returns when Redis and S3 answer. The worker is on its way by then: ``check`` tells if it
        fails.

        Args:
            worker_models: What sweeps will ask for, each given as ``--model`` to the worker. A
                joined stack gets one more worker for those its own was not started for. Empty:
                no worker.
            worker_args: Further arguments of ``seedbed worker``.
            metrics_port: Serve the pool's metrics there, on 127.0.0.1; None: nowhere. A joined
                stack stays as it is.
            detach: Let the stack, a joined one too, outlive this process, until ``shut_down``.

        Raises:
            InvalidSettings: The data folder cannot be one.
            ServiceError: A service did not start; says which and why.
        """
        if self._state is not None:
            raise RuntimeError("this Stack was started before: make another")
        prepare_data_folder(self.data_dir)
        try:
            self._metrics_port = metrics_port
            self._start_or_join(tuple(worker_models), tuple(worker_args))
            if detach:
                self._let_stay()
        except BaseException:
            self.stop()
            raise
        return self

    def check(self) -> None:
        """Raise if the stack, or the worker it was started for, is no more.

        Cheap enough to call several times a second.

        Raises:
            InvalidSettings: The worker refused what it was told; the message is its own.
            ServiceError: A service ended and starting it again was no use.
        """
        if self._keeper is not None:
            self._keeper.hear(timeout=0.0)
            if self._keeper.failure is not None:
                raise self._keeper.failure
        if self.joined:
            state = State.read(self.data_dir)
            if state is None or not self._is_kept():
                raise ServiceError(f"the stack in {self.data_dir} was stopped by whoever keeps it")
            if state.failure is not None and self._needs_its_worker:
                raise failure(state.failure, refused=state.refused)

    def serve_forever(self) -> None:
        """Wait until the stack ends; Ctrl-C goes through to the caller, who calls ``stop``.

        Raises:
            SeedbedError: As ``check``, except that an ordered end by ``shut_down`` is none.
        """
        while True:
            try:
                self.check()
            except SeedbedError:
                if self._is_kept():
                    raise
                return
            if self._keeper is not None:
                self._keeper.hear(timeout=LOOK_SECONDS)
            else:
                time.sleep(LOOK_SECONDS)

    def stop(self) -> None:
        """End what ``start`` has started: worker, then S3, then Redis. Safe to call twice.

        Returns when all processes are gone. A Ctrl-C meanwhile ends them at once and is raised
        again when they are gone.
        """
        keeper, self._keeper = self._keeper, None
        try:
            if keeper is not None:
                self.left_running = not keeper.end()
        finally:
            if keeper is not None:
                keeper.close()
            # Last, since our own worker needs the stack while it drains.
            if self._use is not None:
                self._use.close()
                self._use = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _is_kept(self) -> bool:
        if not self.joined:
            return self._keeper is not None and not self._keeper.ended_in_order
        state = State.read(self.data_dir)
        return state is not None and not state.stopping and state.keeper == self._known().keeper

    def _known(self) -> State:
        if self._state is None:
            raise ServiceError(f"no stack was started in {self.data_dir}")
        return self._state

    def _start_or_join(self, models: tuple[str, ...], arguments: tuple[str, ...]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self._join():
                served = () if self._known().failure is not None else self.worker_models
                missing = tuple(model for model in models if model not in served)
                self._needs_its_worker = len(missing) < len(models)
                if missing:
                    self._keep(missing, arguments, worker_only=True, deadline=deadline)
                return
            if self._keep(models, arguments, worker_only=False, deadline=deadline):
                self._state = State.read(self.data_dir)
                if self._state is None:
                    raise ServiceError(f"the stack in {self.data_dir} ended as soon as it started")
                return
            # Another process has the lock: it starts, or it stops. Look again.
            self.stop()
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"another process has held {self.data_dir / 'stack.lock'} for "
                    f"{START_SECONDS:g} s without a stack to join: end it, or use another folder"
                )
            time.sleep(0.1)

    def _join(self) -> bool:
        """Become one of the users of a running stack, which then outlasts whoever started it."""
        if State.read(self.data_dir) is None:
            return False
        use = FolderLock(self.data_dir / "users.lock")
        try:
            if use.acquire(shared=True):
                state = State.read(self.data_dir)
                if state is not None and not state.stopping:
                    self._state, self._use, self.joined = state, use, True
                    return True
        finally:
            if self._use is not use:
                use.close()
        return False

    def _keep(
        self,
        models: tuple[str, ...],
        arguments: tuple[str, ...],
        *,
        worker_only: bool,
        deadline: float,
    ) -> bool:
        """Start a keeper. True: what it keeps is ready. False: somebody else keeps a stack here."""
        settings = self.settings if worker_only else self._base
        worker = (
            (*self._worker_command, *(f"--model={model}" for model in models), *arguments)
            if models
            else None
        )
        plan = Plan(
            settings=settings.with_values(data_dir=self.data_dir),
            models=models,
            worker=worker,
            metrics_port=None if worker_only else self._metrics_port,
            worker_only=worker_only,
        )
        self._keeper = keeper = KeeperProcess(plan)
        while time.monotonic() < deadline:
            event = keeper.hear(timeout=LOOK_SECONDS)
            if keeper.failure is not None:
                raise keeper.failure
            if event == "ready":
                return True
            if event == "busy":
                return False
        raise ServiceError(f"the stack in {self.data_dir} did not start: look at {self.logs}")

    def _let_stay(self) -> None:
        """Make the stack, and a worker we have added to it, stay when we go."""
        self._known().keeper.send(signal.SIGUSR1)
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.let_stay()
        self.joined = True


def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
