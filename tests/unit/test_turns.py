"""Which model a worker serves next: what is loaded first, and nobody starves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.turns import MOST_WAIT_SECONDS, PATIENCE, Candidate, Waiting, choose


def candidate(model: str, *, switch: float = 0.0, waiting: float = 0.0) -> Candidate:
    return Candidate(model=model, switch_seconds=switch, waiting_seconds=waiting)


def test_nothing_is_served_where_nothing_has_work() -> None:
    assert choose([]) is None


def test_a_loaded_model_goes_before_one_that_has_not_waited_its_due() -> None:
    loaded = candidate("loaded")
    assert choose([candidate("other", switch=6, waiting=59), loaded]) == "loaded"
    assert choose([candidate("other", switch=6, waiting=60), loaded]) == "other"


def test_an_idle_worker_switches_at_once_and_to_the_cheapest() -> None:
    assert choose([candidate("dear", switch=60), candidate("cheap", switch=5)]) == "cheap"
    assert choose([candidate("dear", switch=60, waiting=700), candidate("cheap", switch=5)]) == (
        "dear"
    )


def test_loaded_models_take_turns() -> None:
    assert choose([candidate("a", waiting=0), candidate("b", waiting=300)]) == "b"


def test_however_dear_the_switch_the_wait_is_bounded() -> None:
    one = candidate("huge", switch=3600, waiting=MOST_WAIT_SECONDS)
    assert choose([candidate("loaded", waiting=10), one]) == "huge"


@given(
    st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 4000)), min_size=1, max_size=6).map(
        lambda pairs: [candidate(str(i), switch=s, waiting=w) for i, (s, w) in enumerate(pairs)]
    )
)
def test_a_switch_never_comes_before_its_due_while_something_loaded_has_work(
    candidates: list[Candidate],
) -> None:
    chosen = next(item for item in candidates if item.model == choose(candidates))
    if chosen.switch_seconds > 0 and any(item.switch_seconds == 0 for item in candidates):
        assert chosen.waiting_seconds >= min(PATIENCE * chosen.switch_seconds, MOST_WAIT_SECONDS)


@given(
    st.lists(st.floats(0, 400), min_size=2, max_size=5),
    st.floats(1, 300),
    st.integers(1, 4),
)
def test_in_a_pool_that_never_idles_every_model_is_served_again_and_again(
    costs: list[float], turn: float, room: int
) -> None:
    now = 0.0
    last = dict.fromkeys(range(len(costs)), 0.0)
    held: list[int] = []
    longest = 0.0
    for _ in range(200):
        chosen = int(
            choose(
                [
                    candidate(
                        str(model),
                        switch=0.0 if model in held else cost,
                        waiting=now - last[model],
                    )
                    for model, cost in enumerate(costs)
                ]
            )
            or 0
        )
        longest = max(longest, now - last[chosen])
        if chosen in held:
            held.remove(chosen)
        else:
            now += costs[chosen]
        held = [*held, chosen][-room:]
        now += turn
        last[chosen] = now
    # when it is due, each of the others may be due before it, and load
    bound = min(PATIENCE * max(costs), MOST_WAIT_SECONDS)
    assert longest <= bound + (len(costs) + 1) * (turn + max(costs)) + 1e-6


def test_waiting_counts_from_when_work_was_seen_or_its_turn_was_over() -> None:
    now = 0.0
    waiting = Waiting(lambda: now)
    waiting.saw(["a", "b"], of=["a", "b", "c"])
    now = 10.0
    assert [waiting.seconds(model) for model in "abc"] == [10, 10, 0]

    waiting.begin("a")
    now = 20.0
    waiting.saw(["a", "b"], of=["a", "b", "c"])  # by the heartbeat, in the middle of its turn
    assert (waiting.seconds("a"), waiting.seconds("b")) == (0, 20)
    waiting.end()
    waiting.saw(["a"], of=["a", "b", "c"])
    now = 25.0

    assert (waiting.seconds("a"), waiting.seconds("b")) == (5, 0), "b had no work any more"
