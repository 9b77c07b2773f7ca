"""Work in parallel gives every result, stays bounded, and stops when it should."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from producer.parallel import AHEAD, LAST_SECONDS, in_parallel


def threads_of_ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("parallel-")]


def test_every_item_gives_one_result() -> None:
    assert sorted(in_parallel(lambda n: n * n, range(100), 4)) == [n * n for n in range(100)]
    assert threads_of_ours() == []


def test_nothing_to_do_is_over_at_once() -> None:
    assert list(in_parallel(str, [], 4)) == []


def test_items_are_read_only_a_little_ahead() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    most = max(len(read) - done for done, _ in enumerate(in_parallel(str, items(), 3), start=1))
    assert most <= AHEAD * 3


def test_the_first_exception_is_raised_and_ends_the_rest() -> None:
    called: list[int] = []

    def work(number: int) -> None:
        called.append(number)
        if number == 5:
            raise ValueError("five")

    with pytest.raises(ValueError, match="five"):
        list(in_parallel(work, range(10_000), 2))
    assert len(called) < 100
    assert threads_of_ours() == []


def test_an_exception_of_the_items_is_raised_too() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(in_parallel(str, items(), 2))
    assert threads_of_ours() == []


def test_closing_does_not_wait_for_a_call_that_hangs() -> None:
    hang = threading.Event()
    started = time.monotonic()
    with closing(in_parallel(lambda n: n == 0 or hang.wait(60), range(8), 2)) as results:
        assert next(results) is True
    assert time.monotonic() - started < LAST_SECONDS + 3
    hang.set()
    for thread in threads_of_ours():
        thread.join(10)
