"""How far a sweep is: a live bar on a terminal, a line now and then elsewhere. All on stderr."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from producer.cli.output import one_line, say, time_text
from producer.waiting import all_refused

if TYPE_CHECKING:
    from producer.waiting import Wait, Waits
    from shared.queue import SweepStatus

LINE_SECONDS = 5.0
"""Between two lines where there is no terminal."""
LOOK_SECONDS = 2.0
"""Between two looks at why a sweep waits."""
WINDOW_SECONDS = 30.0
"""Images a second are those of this long."""


class Rate:
    """Images a second, over the last while and since the first was begun."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque()
        self._first: Sample | None = None

    def add(self, done: int, at: float, *, begun: bool) -> None:
        """Note how far it is.

        Args:
            done: Images done.
            at: Seconds of a clock that never goes back.
            begun: Whether any are being rendered.
        """
        if len(self._samples) == 1 and done == self._samples[0][1] and not begun:
            self._samples.clear()  # count from the last moment before it began
        if not self._samples or done != self._samples[-1][1]:
            self._samples.append((at, done))
        if len(self._samples) == 1:
            self._first = self._samples[0]
        while len(self._samples) > 2 and at - self._samples[0][0] > WINDOW_SECONDS:
            self._samples.popleft()

    @property
    def now(self) -> float | None:
        """Of the last while; None until two different counts were seen."""
        return _rate(self._samples[0], self._samples[-1]) if self._samples else None

    @property
    def overall(self) -> float | None:
        """Since the first was begun."""
        return _rate(self._first, self._samples[-1]) if self._first else None


Sample = tuple[float, int]
"""When, and how many were done by then."""


def _rate(first: Sample, last: Sample) -> float | None:
    return (last[1] - first[1]) / (last[0] - first[0]) if last[0] > first[0] else None


@contextmanager
def following(
    *, quiet: bool = False, waiting: str = "waiting for a worker"
) -> Iterator[Callable[[SweepStatus], None]]:
    """Show each status the caller is given; a bar if stderr is a terminal, else lines.

    Args:
        quiet: Show nothing at all.
        waiting: What to say as long as nobody renders.
    """
    if quiet:
        yield lambda status: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(waiting).show
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    note = TextColumn("images  {task.fields[note]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), note)
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting", total=None, note="")
        rate = Rate()

        def show(status: SweepStatus) -> None:
            rate.add(status.done, time.monotonic(), begun=status.leased > 0)
            progress.update(
                task,
                description=status.state,
                total=status.total,
                completed=status.done,
                note=describe(status, rate, waiting),
            )

        yield show


class WaitNotes:
    """Says why a followed sweep waits, each reason once.

    Args:
        waits: Where to look.
        ends: The caller has its own workers, and ends with the reasons when `stuck`: say before
            that only what they refuse while there is something else to do.
        quiet: Say nothing.
    """

    def __init__(self, waits: Waits, *, ends: bool = False, quiet: bool = False) -> None:
        self._waits = waits
        self._ends = ends
        self._said: set[str] = set()
        self._quiet = quiet
        self._looked_at = -math.inf
        self._refused = 0
        self.found: tuple[Wait, ...] = ()

    def look(self, status: SweepStatus) -> tuple[Wait, ...]:
        """What it waits for, looked up every few seconds."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return self.found
        self._looked_at = now
        self.found = self._waits.look(status)
        refused = all_refused(self.found, status)
        self._refused = self._refused + 1 if refused else 0
        for wait in self.found:
            if self._quiet or wait.reason in self._said:
                continue
            if not self._ends or (wait.refused and not refused):
                self._said.add(wait.reason)
                say(f"waiting: {one_line(wait.reason)}")
        return self.found

    @property
    def stuck(self) -> bool:
        """Whether nothing more can happen: seen twice, for jobs move while one looks."""
        return self._refused > 1


@contextmanager
def counting(verb: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr if that is a terminal; call what it yields with done and total."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn(), TextColumn("images"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(verb, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def describe(status: SweepStatus, rate: Rate, waiting: str) -> str:
    """What goes beside the bar: images a second and the time left, or what is waited for."""
    left = status.pending + status.leased
    parts = []
    if left and rate.now:
        parts += [f"{rate.now:.2g} images/s", f"{time_text(left / rate.now)} left"]
    elif left and not status.leased:
        parts.append("paused" if status.state == "paused" else waiting)
    elif not left and rate.overall:
        parts.append(f"{rate.overall:.2g} images/s")
    if status.dead:
        parts.append(f"{status.dead:,} failed")
    return ", ".join(parts)


class _Lines:
    """A line when something has changed, but not too often."""

    def __init__(self, waiting: str) -> None:
        self._rate = Rate()
        self._waiting = waiting
        self._said: tuple[str, int] | None = None
        self._said_at = 0.0

    def show(self, status: SweepStatus) -> None:
        now = time.monotonic()
        self._rate.add(status.done, now, begun=status.leased > 0)
        news = (status.state, status.done)
        ended = status.state in ("done", "cancelled")
        if news == self._said or (now - self._said_at < LINE_SECONDS and not ended):
            return
        self._said, self._said_at = news, now
        note = describe(status, self._rate, self._waiting)
        say(f"{status.done:,}/{status.total:,} images{', ' + note if note else ''}")
