"""Every fault by name: what it does to a pool, until it returns and all is well again."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import redis

from shared.doorbell import SERVE_TASK, broker_prefix, doorbell_queue
from shared.lanes import model_key
from tests.faults.marks import STAGES
from tests.faults.pool import LEASE_SECONDS, POOL, REDIS_USER, FaultyPool, hold, send
from tests.faults.s3_proxy import Answer, Call
from tests.pool import eventually

HOUR = 3600.0
SPARE_DOORBELLS = 300
SHARE_OF_ERRORS = 0.3
STAGE_SECONDS = 180.0
"""How long a doomed worker may take to start and to come to its end."""

LEASED_BY_OTHERS = 24
"""What three workers that were killed may have been about to commit."""

Strike = Callable[[FaultyPool, Random], None]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way to hurt a pool.

    Attributes:
        name: As the command line has it.
        target: Whom it hurts: faults of two targets may strike at once.
        strike: Does it, and returns when it is over; draws its choices from the dice.
        replaces: Workers end of it and have to be replaced.
        often: Quick enough to strike again and again among others.
    """

    name: str
    target: str
    strike: Strike
    replaces: bool = False
    often: bool = True

    @property
    def story(self) -> str:
        """What it does, in a line."""
        return (inspect.getdoc(self.strike) or "").partition("\n")[0].rstrip(".")


CATALOGUE: dict[str, Fault] = {}


def fault(target: str, **traits: bool) -> Callable[[Strike], Strike]:
    """Enter a function in the catalogue, under its own name."""

    def enter(strike: Strike) -> Strike:
        name = strike.__name__.replace("_", "-")
        CATALOGUE[name] = Fault(name=name, target=target, strike=strike, **traits)
        return strike

    return enter


# Workers


@fault("worker", replaces=True)
def worker_killed(pool: FaultyPool, dice: Random) -> None:
    """SIGKILL of one worker at a random moment."""
    hold(dice.uniform(0, 1))
    if workers := pool.alive():
        pool.kill(dice.choice(workers))


@fault("worker", replaces=True, often=False)
def worker_killed_at_each_stage(pool: FaultyPool, dice: Random) -> None:
    """Workers are killed right after loading, claim, begin, render, PUT, receipt and commit."""
    with pool.unstaffed():
        for worker in pool.alive():  # the doomed ones have to do the work
            pool.kill(worker)
        for stages in (STAGES[:4], STAGES[4:]):
            doomed = [
                pool.doomed_worker(stage, 1 if stage == "load" else dice.randint(1, 3))
                for stage in stages
            ]
            eventually(
                lambda doomed=doomed: all(one.process.poll() is not None for one in doomed),
                seconds=STAGE_SECONDS,
                what=f"workers die after {', '.join(stages)}",
            )
            codes = [one.process.returncode for one in doomed]
            assert codes == [-signal.SIGKILL] * len(doomed), codes
    hold(1)
    pool.wait_staffed()


@fault("worker", replaces=True)
def all_workers_killed(pool: FaultyPool, dice: Random) -> None:
    """SIGKILL of all workers at once, replacements seconds later."""
    with pool.unstaffed():
        for worker in pool.alive():
            pool.kill(worker)
        hold(dice.uniform(1, LEASE_SECONDS))
    hold(1)
    pool.wait_staffed()


@fault("worker")
def worker_stopped(pool: FaultyPool, dice: Random) -> None:
    """SIGSTOP of one worker for twice the lease, then SIGCONT: a zombie comes back."""
    if not (workers := pool.present()):
        return
    worker = dice.choice(workers)
    send(worker, signal.SIGSTOP)
    try:
        hold(2 * LEASE_SECONDS)
    finally:
        send(worker, signal.SIGCONT)


@fault("worker", replaces=True)
def worker_drained(pool: FaultyPool, dice: Random) -> None:
    """SIGTERM of one worker: it ends with exit code 0."""
    if workers := pool.present():
        code = pool.drain(dice.choice(workers))
        assert code == 0, f"a drained worker ended with {code}"


@fault("worker", often=False)
def clock_ahead(pool: FaultyPool, dice: Random) -> None:
    """One of the workers has a clock that is an hour ahead."""
    _wrong_clock(pool, HOUR)


@fault("worker", often=False)
def clock_behind(pool: FaultyPool, dice: Random) -> None:
    """One of the workers has a clock that is an hour behind."""
    _wrong_clock(pool, -HOUR)


def _wrong_clock(pool: FaultyPool, seconds: float) -> None:
    """The others are away meanwhile, so that it has to do the work."""
    with pool.unstaffed():
        for other in pool.alive():
            pool.kill(other)
        done = committed(pool)
        worker = pool.worker_with_clock(seconds)
        eventually(
            lambda: committed(pool) > done + LEASED_BY_OTHERS,
            seconds=STAGE_SECONDS,
            what="the worker with the wrong clock commits images",
        )
        code = pool.drain(worker)
        assert code == 0, f"the worker with the wrong clock ended with {code}"
    hold(1)
    pool.wait_staffed()


# Redis


@fault("redis")
def redis_cut(pool: FaultyPool, dice: Random) -> None:
    """Every connection to Redis is reset, several times."""
    for _ in range(dice.randint(1, 5)):
        pool.redis_network.cut()
        hold(dice.uniform(0, 0.5))


@fault("redis")
def redis_stalled(pool: FaultyPool, dice: Random) -> None:
    """Redis is reached but answers nothing for 10 s."""
    with pool.redis_network.stalled():
        hold(10)


@fault("redis")
def redis_refused(pool: FaultyPool, dice: Random) -> None:
    """Nobody listens where Redis was, for seconds."""
    with pool.redis_network.refused():
        hold(dice.uniform(1, 8))


@fault("redis")
def redis_slow(pool: FaultyPool, dice: Random) -> None:
    """Every packet to and from Redis takes 0.1 s longer."""
    with pool.redis_network.slow(0.1):
        hold(dice.uniform(2, 6))


@fault("redis")
def redis_killed(pool: FaultyPool, dice: Random) -> None:
    """SIGKILL of Redis, which comes back from its AOF."""
    pool.redis.kill()
    hold(dice.uniform(0, 5))
    pool.start_redis()


@fault("redis")
def redis_flushed(pool: FaultyPool, dice: Random) -> None:
    """FLUSHALL; a while later the sweeps are submitted again."""
    with pool.redis.client() as client:
        client.flushall()
    hold(dice.uniform(0, 3))
    for sweep in pool.sweeps:
        pool.client.submit(sweep)


@fault("redis")
def redis_credentials_withdrawn(pool: FaultyPool, dice: Random) -> None:
    """The workers' Redis user is off, has another password, or no rights; then all is as before."""
    with pool.redis.client() as client:
        for change in (["off"], ["resetpass", ">another"], ["nocommands"]):
            client.execute_command("ACL", "SETUSER", REDIS_USER, *change)
            client.client_kill_filter(user=REDIS_USER)
            hold(dice.uniform(1, 3))
            client.execute_command("ACL", "LOAD")
            hold(dice.uniform(0, 1))


@fault("redis")
def redis_out_of_connections(pool: FaultyPool, dice: Random) -> None:
    """Redis ends the workers' connections and has reached its maxclients, for seconds."""
    with pool.redis.client() as client:
        most = client.config_get("maxclients")["maxclients"]
        client.config_set("maxclients", 1)
        client.client_kill_filter(user=REDIS_USER)
        hold(dice.uniform(3, 8))
        client.config_set("maxclients", most)


# Storage


@fault("storage")
def s3_refused(pool: FaultyPool, dice: Random) -> None:
    """Nobody listens where S3 was, for seconds."""
    with pool.s3_network.refused():
        hold(dice.uniform(3, 10))


@fault("storage")
def s3_cut(pool: FaultyPool, dice: Random) -> None:
    """Every connection to S3 is reset, several times."""
    for _ in range(dice.randint(2, 8)):
        pool.s3_network.cut()
        hold(dice.uniform(0, 0.4))


@fault("storage")
def s3_stalled(pool: FaultyPool, dice: Random) -> None:
    """S3 is reached but answers nothing for seconds."""
    with pool.s3_network.stalled():
        hold(dice.uniform(5, 12))


@fault("storage")
def s3_slow(pool: FaultyPool, dice: Random) -> None:
    """Every packet to and from S3 takes 0.2 s longer."""
    with pool.s3_network.slow(0.2):
        hold(dice.uniform(3, 8))


@fault("storage")
def s3_errors(pool: FaultyPool, dice: Random) -> None:
    """S3 answers 500 or 503 on 30% of calls."""
    answers = {500: "InternalError", 503: "SlowDown"}

    def rule(call: Call) -> Answer | None:
        if dice.random() > SHARE_OF_ERRORS:
            return None
        status = dice.choice(list(answers))
        return Answer(status=status, code=answers[status])

    with pool.s3.answering(rule):
        hold(dice.uniform(5, 10))


@fault("storage")
def s3_lies_about_heads(pool: FaultyPool, dice: Random) -> None:
    """Half of all HEADs are answered wrongly: there is none, or there is one, whatever is so."""

    def rule(call: Call) -> Answer | None:
        if call.method != "HEAD" or dice.random() < 0.5:
            return None
        return dice.choice([Answer(status=404), Answer(status=200, length=4711)])

    with pool.s3.answering(rule):
        hold(dice.uniform(2, 8))


@fault("storage")
def s3_full(pool: FaultyPool, dice: Random) -> None:
    """S3 is full: every PUT is answered 507."""

    def rule(call: Call) -> Answer | None:
        return Answer(status=507, code="InsufficientStorage") if call.method == "PUT" else None

    with pool.s3.answering(rule):
        hold(dice.uniform(3, 10))


@fault("storage")
def s3_credentials_withdrawn(pool: FaultyPool, dice: Random) -> None:
    """S3 refuses the credentials, and takes them again seconds later."""
    with pool.s3.answering(lambda call: Answer(status=403, code="InvalidAccessKeyId")):
        hold(dice.uniform(3, 8))


# Celery


@fault("celery")
def messages_deleted(pool: FaultyPool, dice: Random) -> None:
    """Every Celery message is deleted as it comes, for seconds."""
    with pool.redis.client() as client:
        for _ in range(30):
            with suppress(redis.ConnectionError):  # another fault has it away
                for key in client.scan_iter(f"{broker_prefix(POOL)}*", _type="list"):
                    client.delete(key)
            hold(0.1)


@fault("celery")
def spare_doorbells(pool: FaultyPool, dice: Random) -> None:
    """300 doorbells ring though nobody has asked."""
    app, model = pool.broker(), model_key(pool.model, None, None)
    queue = doorbell_queue(POOL, model)
    with app.connection_for_write() as connection:
        # another fault may have Redis away, or without room for this one
        connection.ensure_connection(max_retries=None, timeout=STAGE_SECONDS)
        for _ in range(SPARE_DOORBELLS):
            app.send_task(
                SERVE_TASK, args=[model], queue=queue, connection=connection, ignore_result=True
            )


def committed(pool: FaultyPool) -> int:
    """Images of the sweeps in hand that are committed; -1 while Redis is away."""
    try:
        return sum(pool.auditor.done(sweep.id) for sweep in pool.sweeps)
    except redis.RedisError:
        return -1


def work_left(pool: FaultyPool) -> bool:
    """Whether a sweep in hand has jobs that are neither done nor dead, as far as one can tell."""
    try:
        places: Mapping[str, object] = {
            f"{sweep.id} {position}": kinds
            for sweep in pool.sweeps
            for position, kinds in pool.auditor.places(sweep.id).items()
            if kinds not in (["done"], ["dead"])
        }
    except redis.RedisError:
        return True
    return bool(places)
