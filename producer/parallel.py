"""Many small waits at once: results as they come, with bounded work under way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Items handed out per thread: one in hand and one waiting."""
LAST_SECONDS = 2.0
"""How long the end waits for calls under way after an error or Ctrl-C."""


def in_parallel(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Generator[Result]:
    """Call ``work`` on every item, from several threads; yield the results in any order.

    Items are read as threads become free, so that a million of them cost no memory. The first
    exception of ``work`` is raised here and ends the rest; so does closing the generator. Calls
    that do not end soon are left to daemon threads, so that Ctrl-C never waits for a network.

    Args:
        threads: At least 1.
    """
    todo: SimpleQueue[tuple[Item] | None] = SimpleQueue()
    done: SimpleQueue[tuple[Result] | BaseException] = SimpleQueue()

    def serve() -> None:
        while (item := todo.get()) is not None:
            try:
                done.put((work(item[0]),))
            except BaseException as exc:  # noqa: BLE001 - raised again in the caller's thread
                done.put(exc)

    pool = [
        threading.Thread(target=serve, name=f"parallel-{number}", daemon=True)
        for number in range(threads)
    ]
    for thread in pool:
        thread.start()
    source = iter(items)
    under_way = 0
    try:
        for item in islice(source, AHEAD * threads):
            todo.put((item,))
            under_way += 1
        while under_way:
            result = done.get()
            under_way -= 1
            if isinstance(result, BaseException):
                raise result
            for item in islice(source, 1):
                todo.put((item,))
                under_way += 1
            yield result[0]
    finally:
        _end(todo, pool)


def _end(todo: SimpleQueue[tuple[Item] | None], pool: list[threading.Thread]) -> None:
    """Drop what nobody has begun, and let every thread finish what it has in hand."""
    try:
        while True:
            todo.get_nowait()
    except Empty:
        pass
    for _ in pool:
        todo.put(None)
    for thread in pool:
        thread.join(LAST_SECONDS / len(pool))
