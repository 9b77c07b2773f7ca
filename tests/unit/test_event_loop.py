"""The simulator's clock: events in order, processes that sleep, wait and are killed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.simulation.events import Loop, Signal, Steps

seconds = st.floats(0, 1e6)


@given(st.lists(seconds, max_size=30))
def test_events_happen_in_the_order_of_time_and_ties_in_that_of_asking(whens: list[float]) -> None:
    loop, seen = Loop(), []
    for number, when in enumerate(whens):
        loop.at(when, lambda when=when, number=number: seen.append((loop.now, when, number)))
    loop.run(1e6)
    assert [(when, number) for _, when, number in seen] == sorted(
        (when, number) for number, when in enumerate(whens)
    )
    assert all(now == when for now, when, _ in seen)
    assert loop.events == len(whens)


def test_time_never_goes_back_and_what_is_past_is_now() -> None:
    loop, seen = Loop(), []
    loop.at(5.0, lambda: loop.at(1.0, lambda: seen.append(loop.now)))
    loop.run(10.0)
    assert seen == [5.0]
    assert loop.now == 10.0


def test_a_cancelled_event_does_not_happen() -> None:
    loop, seen = Loop(), []
    timer = loop.after(1.0, lambda: seen.append("cancelled"))
    loop.after(0.5, timer.cancel)
    loop.run(2.0)
    assert seen == []


def test_a_run_ends_after_the_event_that_fulfils_its_condition() -> None:
    loop, seen = Loop(), []
    for when in (1.0, 2.0, 3.0):
        loop.at(when, lambda: seen.append(loop.now))
    assert loop.run(10.0, stop=lambda: len(seen) == 2)
    assert loop.now == 2.0
    assert not loop.run(10.0, stop=lambda: False)
    assert seen == [1.0, 2.0, 3.0]


def test_a_process_sleeps_waits_for_a_signal_and_ends() -> None:
    loop, signal, seen = Loop(), Signal(), []

    def steps() -> Steps:
        yield 2.0
        seen.append(loop.now)
        yield signal
        seen.append(loop.now)

    process = loop.start(steps())
    loop.at(7.0, signal.fire)
    loop.run(10.0)
    assert seen == [2.0, 7.0]
    assert not process.alive


def test_a_killed_process_never_goes_on_asleep_or_waiting() -> None:
    loop, signal, seen = Loop(), Signal(), []

    def steps(wish: float | Signal) -> Steps:
        try:
            yield wish
            seen.append("went on")
        finally:
            pass

    processes = [loop.start(steps(wish)) for wish in (5.0, signal)]
    loop.at(1.0, lambda: [process.kill() for process in processes])
    loop.at(6.0, signal.fire)
    loop.run(10.0)
    assert seen == []
