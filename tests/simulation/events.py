"""A clock that jumps from event to event, and processes that sleep by it.

A process is a generator: it yields seconds to sleep, or a Signal to wait for. One thread runs them
all, in the order of time and, at the same moment, in the order in which they were asked for: so a
run with the same seed is the same run.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from itertools import count

Steps = Generator["float | Signal", None, None]


class Timer:
    """Something that will be done at a moment, unless it is cancelled."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action: Callable[[], object] | None = action

    def cancel(self) -> None:
        """Do nothing then; also after it was done."""
        self.action = None


class Loop:
    """Virtual time, in seconds from 0."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._order = count()
        self._agenda: list[tuple[float, int, Timer]] = []

    def at(self, when: float, action: Callable[[], object]) -> Timer:
        """Do something at a moment; one that has passed is now."""
        timer = Timer(action)
        heapq.heappush(self._agenda, (max(when, self.now), next(self._order), timer))
        return timer

    def after(self, seconds: float, action: Callable[[], object]) -> Timer:
        """Do something in so many seconds."""
        return self.at(self.now + seconds, action)

    def start(self, steps: Steps) -> Process:
        """Run a process up to its first yield, now."""
        process = Process(self, steps)
        process.go_on()
        return process

    def run(self, until: float, *, stop: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass up to ``until``, or to the event after which ``stop`` holds.

        Returns:
            Whether it was ``stop`` that ended it.
        """
        while self._agenda and self._agenda[0][0] <= until:
            when, _, timer = heapq.heappop(self._agenda)
            if timer.action is None:
                continue
            self.now = when
            self.events += 1
            action, timer.action = timer.action, None
            action()
            if stop():
                return True
        self.now = max(self.now, until)
        return False


class Signal:
    """What processes wait for; each waiting one goes on once it fires."""

    def __init__(self) -> None:
        self._waiting: list[Process] = []

    def add(self, process: Process) -> None:
        """Wake this one as well."""
        self._waiting.append(process)

    def fire(self) -> None:
        """Wake all that wait now."""
        waiting, self._waiting = self._waiting, []
        for process in waiting:
            process.go_on()


class Process:
    """A generator under way."""

    def __init__(self, loop: Loop, steps: Steps) -> None:
        self.alive = True
        self._loop = loop
        self._steps = steps
        self._timer: Timer | None = None

    def go_on(self) -> None:
        """Run to the next yield; a process that has been killed stays where it was."""
        if not self.alive:
            return
        try:
            wish = next(self._steps)
        except StopIteration:
            self.alive = False
            return
        if isinstance(wish, Signal):
            wish.add(self)
        else:
            self._timer = self._loop.after(wish, self.go_on)

    def kill(self) -> None:
        """Never go on."""
        self.alive = False
        if self._timer is not None:
            self._timer.cancel()
