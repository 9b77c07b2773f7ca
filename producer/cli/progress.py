"""How far a sweep is: a live bar on a terminal, a line now and then elsewhere. All on stderr."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from producer.cli.output import say, time_text

if TYPE_CHECKING:
    from rich.console import Console

    from shared.queue import SweepStatus

LINE_SECONDS = 5.0
"""Between two lines where there is no terminal."""
WINDOW_SECONDS = 30.0
"""Images a second are those of this long."""


class Rate:
    """Images a second, over the last while."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, done: int, at: float) -> None:
        """Note how many are done at this time, in seconds of any clock that never goes back."""
        if len(self._samples) == 1 and done == self._samples[0][1]:
            self._samples.clear()  # nothing has begun yet: count from the last such moment
        if not self._samples or done != self._samples[-1][1]:
            self._samples.append((at, done))
        while len(self._samples) > 2 and at - self._samples[0][0] > WINDOW_SECONDS:
            self._samples.popleft()

    @property
    def per_second(self) -> float | None:
        """None until two different counts were seen."""
        if len(self._samples) < 2:
            return None
        (first_at, first), (last_at, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else None


class View(Protocol):
    """Something that shows how far a sweep is."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def update(self, status: SweepStatus) -> None:
        """Show this status."""


def open_view(*, quiet: bool = False) -> View:
    """A bar if stderr is a terminal, else lines; nothing at all if ``quiet``."""
    if quiet:
        return _Nothing()
    from rich.console import Console

    console = Console(stderr=True)
    return _Bar(console) if console.is_terminal else _Lines()


def describe(status: SweepStatus, rate: Rate) -> str:
    """What goes beside the bar: images a second and the time left, or what is waited for."""
    parts = []
    per_second = rate.per_second
    left = status.pending + status.leased
    if per_second and left:
        parts += [f"{per_second:.2g} images/s", f"{time_text(left / per_second)} left"]
    elif left and not status.leased:
        parts.append("paused" if status.state == "paused" else "waiting for a worker")
    if status.dead:
        parts.append(f"{status.dead:,} failed")
    return ", ".join(parts)


class _Nothing:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing to take down."""

    def update(self, status: SweepStatus) -> None:
        """Nothing to show."""


class _Bar(_Nothing):
    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._rate = Rate()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("images  {task.fields[note]}"),
            console=console,
        )
        self._task = self._progress.add_task("rendering", total=None, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def update(self, status: SweepStatus) -> None:
        self._rate.add(status.done, time.monotonic())
        self._progress.update(
            self._task,
            description=status.state,
            total=status.total,
            completed=status.done,
            note=describe(status, self._rate),
        )


class _Lines(_Nothing):
    def __init__(self) -> None:
        self._rate = Rate()
        self._said: tuple[str, int] | None = None
        self._said_at = 0.0

    def update(self, status: SweepStatus) -> None:
        now = time.monotonic()
        self._rate.add(status.done, now)
        news = (status.state, status.done)
        ended = status.state in ("done", "cancelled")
        if news == self._said or (now - self._said_at < LINE_SECONDS and not ended):
            return
        self._said, self._said_at = news, now
        note = describe(status, self._rate)
        say(f"{status.done:,}/{status.total:,} images{', ' + note if note else ''}")
