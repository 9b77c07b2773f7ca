"""The keeper: the one process that starts, watches and ends the processes of a stack.

``Stack`` starts it in a session of its own and holds the other end of its standard input. When
that closes, for whatever reason and however suddenly, the keeper ends the stack in order. It has
one thread and imports neither boto3 nor Celery, so it is there in a moment and has little to
fail at. What it is told, and tells, is in orders.py.

A keeper of a worker alone adds it to a stack that another keeps, and ends with that stack.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from producer.services.metrics_process import NAME as METRICS
from producer.services.metrics_process import metrics_service
from producer.services.orders import Orders, read_line
from producer.services.plan import Plan
from producer.services.redis_server import redis_service
from producer.services.restarts import Restarts
from producer.services.s3_server import BUCKET, remove_leftovers, s3_service
from producer.services.service import Child, Service, free_port
from producer.services.state import FolderLock, Process, State, end_orphans, write_children
from producer.services.worker_process import worker_service
from shared.errors import InvalidInput, SeedbedError, ServiceError

logger = logging.getLogger(__name__)

START_SECONDS = 60.0
"""For a service to answer. A Redis with much to read in takes longest."""

POLL_SECONDS = 0.01
"""Between two looks at a service that starts."""

LOOK_SECONDS = 0.5
"""Longest sleep while all is well; a child's end or a signal interrupts it."""

PORT_TRIES = 3
"""A free port can be taken by another before the service has it."""

HURRIED_SECONDS = 1.0
"""From SIGTERM to SIGKILL for somebody who pressed Ctrl-C twice; enough for Redis and S3."""

OTHERS_SECONDS = 35.0
"""For the workers that others have added to end: they notice within half a second, and drain."""

SERVING = b" listening "
"""What a worker logs when it has loaded its model."""

SERVERS = ("s3", "redis")
"""In the order of their end."""

REFUSED = 2
"""Exit code of a worker whose user has something to mend: restarting it is no use."""


class Leaving(Exception):
    """Somebody wants the stack to end while it is still starting."""


class Keeper:
    """Keeps what its plan says, until its orders are to end."""

    def __init__(self, plan: Plan, orders: Orders) -> None:
        self._plan = plan
        self._orders = orders
        self._settings = plan.settings
        self._data_dir = plan.settings.data_dir
        self._folder = Path.cwd()
        self._environ = dict(os.environ)
        self._children: dict[str, Child] = {}
        self._restarts = Restarts()
        self._restart_at: dict[str, tuple[float, Service]] = {}
        self._state: State | None = None
        self._users: FolderLock | None = None
        self._workers = FolderLock(self._data_dir / "workers.lock")
        self._told_shared = False
        self._stopped_by_signal = False

    def run(self) -> int:
        """Until somebody ends it; returns the exit code."""
        lock: FolderLock | None = None
        try:
            if self._plan.worker_only:
                self._workers.acquire(shared=True)
                self._start_worker(name=f"worker-{os.getpid()}")
            else:
                lock = FolderLock(self._data_dir / "stack.lock")
                if not lock.acquire():
                    self._orders.say("busy")
                    return 0
                self._start_stack()
            self._orders.say("ready")
            while not self._leaving():
                self._orders.wait(LOOK_SECONDS)
                self._look_after_children()
            return 0
        except Leaving:
            return 0
        except SeedbedError as exc:
            logger.error("the stack ends", exc_info=exc)
            self._orders.say("failed", message=str(exc), refused=isinstance(exc, InvalidInput))
            return 1
        except OSError as exc:
            logger.error("the stack ends", exc_info=exc)
            message = f"the stack in {self._data_dir} cannot be kept: {exc}"
            self._orders.say("failed", message=message, refused=False)
            return 1
        finally:
            self._stop()
            if lock is not None:
                lock.close()

    def _start_stack(self) -> None:
        (self._data_dir / "stack.json").unlink(missing_ok=True)
        if end_orphans(self._data_dir):
            remove_leftovers(self._data_dir)
        self._users = FolderLock(self._data_dir / "users.lock")
        for attempt in range(1, PORT_TRIES + 1):
            try:
                redis, redis_url = redis_service(
                    self._data_dir, port=free_port(), environ=self._environ
                )
                s3, s3_url, access_key, secret_key = s3_service(
                    self._data_dir, port=free_port(), environ=self._environ
                )
                self._start(redis)
                self._start(s3)
                self._wait_until_ready(redis, s3)
                break
            except ServiceError as exc:
                # Redis says "Address already in use", rclone "address already in use".
                if attempt == PORT_TRIES or "already in use" not in str(exc):
                    raise
                self._end_servers()
        self._settings = self._settings.with_values(
            redis_url=redis_url,
            broker_url=None,
            bucket=BUCKET,
            s3_endpoint_url=s3_url,
            s3_region="us-east-1",
            access_key=access_key,
            secret_key=secret_key,
        )
        self._start_worker(name="worker")
        if self._plan.metrics_port is not None:
            self._start(
                metrics_service(
                    self._data_dir,
                    self._settings,
                    port=self._plan.metrics_port,
                    folder=self._folder,
                    environ=self._environ,
                )
            )
        self._state = State(
            keeper=Process.current(),
            redis_url=redis_url,
            s3_endpoint_url=s3_url,
            access_key=access_key,
            secret_key=secret_key,
            bucket=BUCKET,
            pool=self._settings.pool,
            prefix=self._settings.prefix,
            worker_models=self._plan.models,
        )
        self._state.write(self._data_dir)

    def _start_worker(self, *, name: str) -> None:
        if self._plan.worker is not None:
            self._start(
                worker_service(
                    self._data_dir,
                    self._settings,
                    command=self._plan.worker,
                    folder=self._folder,
                    environ=self._environ,
                    name=name,
                )
            )

    def _start(self, service: Service) -> None:
        self._children[service.name] = Child(service)
        if not self._plan.worker_only:
            pids = {name: child.process.pid for name, child in self._children.items()}
            write_children(self._data_dir, pids)

    def _wait_until_ready(self, *services: Service) -> None:
        deadline = time.monotonic() + START_SECONDS
        waiting = list(services)
        while waiting:
            self._orders.wait(POLL_SECONDS)
            if self._leaving():
                raise Leaving
            for service in tuple(waiting):
                child = self._children[service.name]
                if child.exit_code() is not None:
                    raise ServiceError(_end_of(child, "while it started"))
                if service.ready is None or service.ready():
                    waiting.remove(service)
                elif time.monotonic() > deadline:
                    raise ServiceError(
                        f"{service.name} did not answer within {START_SECONDS:g} s; "
                        f"the end of {service.log}:\n{child.log_tail()}"
                    )

    def _look_after_children(self) -> None:
        """Note which have ended, and start those again whose pause is over."""
        for name, child in tuple(self._children.items()):
            if child.exit_code() is not None:
                del self._children[name]
                self._note_end(child)
        for name, (moment, service) in tuple(self._restart_at.items()):
            if time.monotonic() >= moment:
                del self._restart_at[name]
                self._start(service)

    def _note_end(self, child: Child) -> None:
        name, code = child.service.name, child.exit_code()
        lived = time.monotonic() - child.since
        is_worker = name not in SERVERS
        logger.warning("%s %s after %.1f s", name, child.how_it_ended(), lived)
        pause = self._restarts.pause(
            name,
            lived_seconds=lived,
            served=is_worker and child.said(SERVING),
            gave_up=is_worker and code in (1, REFUSED),
        )
        if pause is not None:
            self._restart_at[name] = (time.monotonic() + pause, child.service)
            return
        message = _end_of(child, f"{lived:.0f} s after its start")
        if name == METRICS:
            logger.error("no metrics any more: %s", message)
        elif not is_worker:
            raise ServiceError(message)
        elif code == REFUSED:
            self._lost_worker(_last_words(child) or message, refused=True)
        else:
            self._lost_worker(message, refused=False)

    def _lost_worker(self, message: str, *, refused: bool) -> None:
        """Go on without: what is stored and queued can still be asked for."""
        logger.error("no worker any more: %s", message)
        if self._state is not None:
            self._state = replace(self._state, failure=message, refused=refused)
            self._state.write(self._data_dir)
        self._orders.say("worker_failed", message=message, refused=refused)

    def _leaving(self) -> bool:
        if self._orders.terms:
            self._stopped_by_signal = True
            return True
        if self._plan.worker_only:
            state = State.read(self._data_dir)
            if state is None or state.stopping:
                return True
        if not self._orders.alone:
            return False
        # Whoever started the stack is gone. Others may have joined; nobody can after this lock.
        if not self._orders.stay and (self._users is None or self._users.acquire()):
            return True
        if not self._told_shared:
            self._told_shared = True
            self._orders.say("shared")
        return False

    def _hurried(self) -> bool:
        return self._orders.terms > (1 if self._stopped_by_signal else 0)

    def _stop(self) -> None:
        if self._state is not None:
            self._state = replace(self._state, stopping=True)
            with suppress(OSError):  # a full disk must not keep processes alive
                self._state.write(self._data_dir)
        # The worker first: it stores what it has, and gives back the rest.
        for name in tuple(self._children):
            if name not in SERVERS:
                self._end(name)
        if self._state is not None:
            self._wait_for_other_workers()
        self._end_servers()
        if self._users is not None:  # else another keeper's files
            for name in ("stack.json", "children.json"):
                with suppress(OSError):
                    (self._data_dir / name).unlink(missing_ok=True)
            self._users.close()

    def _end_servers(self) -> None:
        for name in SERVERS:
            if name in self._children:
                self._end(name)

    def _end(self, name: str) -> None:
        child = self._children.pop(name)
        child.send(signal.SIGTERM)
        began, killed = time.monotonic(), False
        while child.exit_code() is None:
            patience = HURRIED_SECONDS if self._hurried() else child.service.stop_seconds
            if not killed and time.monotonic() - began > patience:
                logger.warning("%s is killed", name)
                child.send(signal.SIGKILL)
                killed = True
            self._orders.wait(0.1)

    def _wait_for_other_workers(self) -> None:
        """Those that joiners have added drain too; each has a keeper that holds the lock."""
        deadline = time.monotonic() + OTHERS_SECONDS
        while not self._workers.acquire() and not self._hurried():
            if time.monotonic() > deadline:
                return
            self._orders.wait(0.1)


def _end_of(child: Child, when: str) -> str:
    tail = child.log_tail()
    name, log = child.service.name, child.service.log
    return f"{name} {child.how_it_ended()} {when}; the end of {log}:\n{tail}"


def _last_words(child: Child) -> str:
    """The one sentence with which a worker refuses its arguments, model or settings."""
    lines = child.log_tail().split("\n")
    return lines[-1].strip().removeprefix("seedbed worker: ").removeprefix("Error: ")


def main() -> int:
    """Entry point of ``python -m producer.services.keeper``."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s keeper %(message)s")
    line = read_line()
    return 0 if line is None else Keeper(Plan.read(line), Orders()).run()


if __name__ == "__main__":
    sys.exit(main())
