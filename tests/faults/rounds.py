"""One round: sweeps are rendered while faults strike, then everything is counted."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from threading import Event, Thread

import redis

from producer import Sweep
from shared.errors import WaitTimeout
from tests.faults.auditor import Audit
from tests.faults.catalogue import CATALOGUE, Fault, committed, work_left
from tests.faults.marks import HANGS, KILLS, NON_FINITE, RAISES, TOO_LARGE
from tests.faults.pool import FaultyPool

PROMPTS = ("a red circle", "a blue star")
SCALES = (1, 4)
STEPS = 8
SEEDS = 96
"""Of a usual round: with the prompts and scales, 384 images."""
EXACT_SEEDS = 18
"""Of a reproducible sweep: with the prompts and scales, 72 images."""
WARM = 8
"""Images committed before the first fault strikes."""
PROGRESS_SECONDS = 90.0
"""How long after a fault the next image may take before the round counts as stuck."""
END_SECONDS = 240.0
"""How long after the last fault a round may take."""
WATCH_SECONDS = 0.2
IN_PAIRS = 0.25
"""How often another fault strikes at the same time, on another target."""

KILL_EVERY_SECONDS = (0.5, 5.5)
"""Between two SIGKILLs of `Player.under_kills`: a worker of three lives 9 s on average."""

SIGKILLS = "sigkills"
"""The round in which workers are killed all the time."""
TO_THE_BIT = "to-the-bit"
"""The round with a reproducible sweep."""
MISRENDERINGS = ("raises", "too-large", "non-finite", "hangs", "kills")
"""Kinds of marked jobs."""
QUICK_MARKS = ("raises", "too-large", "non-finite")
"""Those that end no process."""
MARKED_SHARE = 0.5
"""Of the random rounds: how many have jobs of each quick kind."""

REASONS = {
    "raises": r"ValueError: nobody can read",
    "non-finite": r"NaN or infinite",
    "hangs": r"exceeded|vanished|killed",
    "kills": r"vanished|killed",
}
"""Kind of marked job to a pattern of what it should die of."""


@dataclass(kw_only=True)
class Round:
    """What happened in a round, and what came of it.

    Attributes:
        name: The fault's, or ``random``.
        faults: How often each struck.
        recoveries: Seconds from the end of each fault to the next committed image.
        seconds: From submission to the end of the sweeps.
        audit: What is there and what is not.
        begun: Images that a pipeline was called for, copies that fill reproducible batches too.
        problems: What went wrong, in sentences; empty for a round that went well.
    """

    name: str
    faults: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)
    seconds: float = 0.0
    audit: Audit = field(default_factory=Audit)
    begun: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def wasted(self) -> int:
        """Images rendered, or half rendered, for nothing."""
        return max(0, self.begun - self.audit.images)

    @property
    def recovery(self) -> float:
        """The longest one."""
        return max(self.recoveries, default=0.0)

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


class Player:
    """Plays rounds on one pool, from one pair of dice."""

    def __init__(self, pool: FaultyPool, dice: Random, *, seeds: int = SEEDS) -> None:
        self.pool = pool
        self.dice = dice
        self._seeds = seeds
        self._number = 0

    def without_faults(self) -> Round:
        """Renders what every later round will: the pictures they are compared with.

        Those of marked jobs come from pipeline calls like any other, once they are made.
        """
        marks = ("raises", "too-large")
        with self._round("no-fault", marks=marks, learn=True, exact=True) as played:
            self._wait_ended(played)
        return played

    def alone(self, fault: Fault) -> Round:
        """One fault in mid-sweep; nobody may have to be replaced who did not have to."""
        with self._round(fault.name) as played:
            self._wait_warm(played)
            before = {worker.process.pid for worker in self.pool.present()}
            self._strike([fault], played)
            self._wait_ended(played)
            after = {worker.process.pid for worker in self.pool.present()}
            if not fault.replaces and fault.target != "worker" and not before <= after:
                played.problems.append(f"{len(before - after)} workers did not live through it")
        return played

    def misrendering(self, kind: str) -> Round:
        """Jobs that misbehave among others that don't."""
        with self._round(kind, marks=(kind,), seeds=8) as played:
            played.faults[kind] += 1
            self._wait_ended(played)
        return played

    def to_the_bit(self) -> Round:
        """A reproducible sweep beside another, on workers that come, go and pack otherwise."""
        with self._round(TO_THE_BIT, seeds=8, exact=True) as played:
            odd = self.pool.worker_with_batches(3)
            self._wait_warm(played)
            self._strike([CATALOGUE["worker-killed"]], played)
            self._wait_ended(played)
            self.pool.kill(odd)
        if not played.audit.exact:
            played.problems.append("no image was held to be equal to the bit")
        return played

    def in_turn(self, faults: Sequence[Fault], marks: tuple[str, ...] = ()) -> Round:
        """One fault after the other in one sweep, among jobs that misbehave."""
        with self._round("in-turn", marks=marks) as played:
            played.faults.update(marks)
            self._wait_warm(played)
            for fault in faults:
                self._strike([fault], played)
            self._wait_ended(played)
        return played

    def at_random(self, seconds: float) -> Round:
        """Fault upon fault until the sweeps are through or the time is up."""
        faults = [fault for fault in CATALOGUE.values() if fault.often]
        marks = tuple(kind for kind in QUICK_MARKS if self.dice.random() < MARKED_SHARE)
        deadline = time.monotonic() + seconds
        with self._round("random", marks=marks) as played:
            played.faults.update(marks)
            self._wait_warm(played)
            while time.monotonic() < deadline and work_left(self.pool):
                chosen = [self.dice.choice(faults)]
                if self.dice.random() < IN_PAIRS:
                    others = [one for one in faults if one.target != chosen[0].target]
                    chosen.append(self.dice.choice(others))
                self._strike(chosen, played)
            self._wait_ended(played)
        return played

    def under_kills(self, seconds: float) -> Round:
        """SIGKILL of one worker after another until the sweep is through or the time is up.

        Nobody waits for the pool between two of them, nor for what a worker is doing.
        """
        started = time.monotonic()
        with self._round(SIGKILLS) as played:
            strike_at, hurt_since, done_then = started, None, 0
            while (now := time.monotonic()) < started + seconds and work_left(self.pool):
                done = committed(self.pool)
                if hurt_since is not None and done > done_then:
                    played.recoveries.append(now - hurt_since)
                    hurt_since = None
                if now >= strike_at and self.pool.kill_life(self.dice):
                    played.faults[SIGKILLS] += 1
                    strike_at = now + self.dice.uniform(*KILL_EVERY_SECONDS)
                    if hurt_since is None:
                        hurt_since, done_then = now, done
                time.sleep(WATCH_SECONDS)
            self._wait_ended(played)
        return played

    @contextmanager
    def _round(
        self,
        name: str,
        *,
        marks: tuple[str, ...] = (),
        seeds: int | None = None,
        learn: bool = False,
        exact: bool = False,
    ) -> Iterator[Round]:
        """Submit, watch, and audit at the end."""
        pool, played = self.pool, Round(name=name)
        self._number += 1
        self._clear()
        plain: tuple[Sweep, dict[int, str]] = self._plain(self._number, seeds or self._seeds), {}
        sweeps = [plain, *(self._marked(self._number, kind) for kind in marks)]
        if exact:
            sweeps.append((self._exact(self._number), {}))
        pool.sweeps = [sweep for sweep, _ in sweeps]
        begun = pool.rows_begun()
        ends = len(pool.unexpected_ends)
        started = time.monotonic()
        for sweep in pool.sweeps:
            pool.client.submit(sweep)
        with self._watched(played):
            try:
                yield played
            except (AssertionError, WaitTimeout) as exc:
                played.problems.append(str(exc).partition("\n")[0][:500])
        played.seconds = time.monotonic() - started
        played.begun = pool.rows_begun() - begun
        if learn or name in CATALOGUE:
            played.problems += pool.unexpected_ends[ends:]
        expected = {sweep.id: doomed for sweep, doomed in sweeps}
        played.audit = pool.auditor.audit(expected, learn=learn)
        played.problems += [
            f"{kind}: {len(found)}, such as {found[0]}"
            for kind, found in played.audit.faults.items()
        ]

    @contextmanager
    def _watched(self, played: Round) -> Iterator[None]:
        """Look again and again whether every job is in one place."""
        over = Event()

        def watch() -> None:
            while not over.wait(WATCH_SECONDS):
                try:
                    for sweep in self.pool.sweeps:
                        if wrong := self.pool.auditor.misplaced(sweep.id):
                            played.problems.append(f"misplaced: {wrong[:3]}")
                            return
                except (redis.RedisError, KeyError):
                    continue  # it is away, or was emptied between two looks

        thread = Thread(target=watch, name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _strike(self, faults: list[Fault], played: Round) -> None:
        """Let faults strike, at once if several, and wait until images come again."""
        errors: list[str] = []

        def strike(fault: Fault, dice: Random) -> None:
            try:
                fault.strike(self.pool, dice)
            except Exception as exc:  # noqa: BLE001 - whatever it is, the round went wrong
                errors.append(f"{fault.name}: {exc!r:.300}")

        threads = [
            Thread(target=strike, args=(fault, Random(self.dice.random())), daemon=True)
            for fault in faults
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        played.problems += errors
        played.faults.update(fault.name for fault in faults)
        healed, done = time.monotonic(), committed(self.pool)
        while work_left(self.pool) and committed(self.pool) <= done:
            if time.monotonic() > healed + PROGRESS_SECONDS:
                played.problems.append(
                    f"no image for {PROGRESS_SECONDS:g} s after {' and '.join(played.faults)}"
                )
                return
            time.sleep(0.05)
        played.recoveries.append(time.monotonic() - healed)

    def _wait_warm(self, played: Round) -> None:
        deadline = time.monotonic() + PROGRESS_SECONDS
        while committed(self.pool) < WARM:
            if time.monotonic() > deadline:
                raise AssertionError("the sweep did not start")
            time.sleep(0.05)

    def _wait_ended(self, played: Round) -> None:
        deadline = time.monotonic() + END_SECONDS
        for sweep in self.pool.sweeps:
            left = max(1.0, deadline - time.monotonic())
            self.pool.client.wait(sweep.id, timeout_seconds=left)

    def _clear(self) -> None:
        """Forget the last round's sweeps and images, so that this one has to make its own."""
        for sweep in self.pool.sweeps:
            self.pool.client.delete(sweep.id)
        self.pool.sweeps = []
        self.pool.auditor.delete("images/")
        self.pool.auditor.delete("sweeps/")

    def _plain(self, number: int, seeds: int) -> Sweep:
        return self._sweep(f"plain-{number}", prompt=list(PROMPTS), seed=range(seeds))

    def _exact(self, number: int) -> Sweep:
        return self._sweep(
            f"exact-{number}",
            prompt=list(PROMPTS),
            seed=range(EXACT_SEEDS),
            scheduler="EulerAncestralDiscreteScheduler",
            reproducible=True,
        )

    def _marked(self, number: int, kind: str) -> tuple[Sweep, dict[int, str]]:
        """A sweep of marked jobs, and which of them should die of what."""
        name = f"{kind}-{number}"
        if kind == "raises":
            sweep = self._sweep(name, prompt=[RAISES, PROMPTS[0]], seed=[SEEDS], guidance_scale=4)
            return sweep, {0: REASONS[kind]}
        if kind == "too-large":
            seeds = range(TOO_LARGE, TOO_LARGE + 8)
            return self._sweep(name, prompt=PROMPTS[0], seed=seeds, guidance_scale=4), {}
        seed = {"non-finite": NON_FINITE, "hangs": HANGS, "kills": KILLS}[kind]
        sweep = self._sweep(name, prompt=PROMPTS[0], seed=[seed], guidance_scale=4)
        return sweep, {0: REASONS[kind]}

    def _sweep(self, name: str, **fields: object) -> Sweep:
        values = {
            "name": re.sub(r"[^a-z0-9]+", "-", name),
            "guidance_scale": list(SCALES),
            "num_inference_steps": STEPS,
            "scheduler": "DDIMScheduler",
        }
        return self.pool.sweep(**(values | fields))
