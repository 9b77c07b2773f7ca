"""What the exporter shows of a pool has a bounded number of series, and leaves out no job."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from producer.pool_view import ModelView, bounded, model_views
from shared.backlog import Backlog, Tally
from shared.metric_table import MOST_LANES, MOST_MODELS, OTHER
from shared.scaling import LaneBacklog, ModelBacklog

lanes = st.builds(
    LaneBacklog,
    pending=st.integers(0, 100),
    leased=st.integers(0, 100),
    seconds=st.integers(0, 1000).map(float),
)
views = st.builds(
    ModelView,
    work=st.builds(
        ModelBacklog,
        lanes=st.integers(0, 2 * MOST_LANES).flatmap(
            lambda count: st.fixed_dictionaries({f"lane{i}": lanes for i in range(count)})
        ),
        stranded=st.integers(0, 9),
    ),
    tally=st.builds(Tally, done=st.integers(0, 1000), dead=st.integers(0, 9)),
    oldest_at=st.none() | st.floats(0, 1e9),
    workers=st.fixed_dictionaries({}, optional={"serving": st.integers(1, 9)}),
)


def totals(found: dict[str, ModelView]) -> tuple[int, ...]:
    works = [view.work for view in found.values()]
    tallies = [view.tally for view in found.values()]
    return (
        sum(work.pending for work in works),
        sum(work.leased for work in works),
        round(sum(work.seconds for work in works)),
        sum(work.stranded for work in works),
        sum(tally.done for tally in tallies),
        sum(tally.dead for tally in tallies),
    )


@given(st.lists(views, max_size=4), st.integers(0, 2 * MOST_MODELS))
def test_series_are_bounded_and_every_job_is_in_one(some: list[ModelView], more: int) -> None:
    pool = {f"model{i}": view for i, view in enumerate(some)}
    small = ModelView(work=ModelBacklog(lanes={"lane": LaneBacklog(pending=1, seconds=0.5)}))
    pool |= {f"stranger{i}": small for i in range(more)}

    shown = bounded(pool)

    assert len(shown) <= MOST_MODELS + 1
    assert all(len(view.work.lanes) <= MOST_LANES + 1 for view in shown.values())
    assert totals(shown) == totals(pool)
    oldest = [view.oldest_at for view in pool.values() if view.oldest_at is not None]
    told = [view.oldest_at for view in shown.values() if view.oldest_at is not None]
    assert min(told, default=None) == min(oldest, default=None)


def test_a_model_with_workers_is_shown_before_any_number_of_strangers() -> None:
    busy = ModelView(work=ModelBacklog(lanes={"lane": LaneBacklog(pending=9, seconds=1e6)}))
    pool = {f"stranger{i}": busy for i in range(MOST_MODELS)}
    pool["ours"] = ModelView(workers={"serving": 1})

    shown = bounded(pool)

    assert shown["ours"] == pool["ours"]
    assert shown[OTHER].work.pending == 9


def worker(*served: tuple[str, str, str | None], **values: Any) -> dict[str, Any]:
    return {
        "served": [
            {"key": key, "model": model, "revision": revision} for key, model, revision in served
        ],
        **values,
    }


def test_sets_of_weights_of_one_checkpoint_are_one_model() -> None:
    one = ModelBacklog(lanes={"a": LaneBacklog(pending=3, seconds=3.0)})
    other = ModelBacklog(lanes={"b": LaneBacklog(leased=2, seconds=4.0)}, stranded=1)
    workers = [
        worker(("k1", "m", None), ("k2", "m", None)),
        worker(("k1", "m", None), ("k3", "m", "v1"), draining=True),
    ]
    found = model_views(
        Backlog(at=100.0, oldest={"k1": 50.0, "k2": 20.0}),
        {"k1": one, "k2": other},
        {"k1": Tally(done=1), "k2": Tally(done=2, expired=1), "strange": Tally(dead=1)},
        workers,
        {"k1": "m", "k2": "m", "k3": "m@v1"},
    )

    assert set(found) == {"m", "m@v1", "strange"}
    assert (found["m"].work.pending, found["m"].work.leased, found["m"].work.stranded) == (3, 2, 1)
    assert found["m"].tally == Tally(done=3, expired=1)
    assert found["m"].oldest_at == 20.0
    assert found["m"].workers == {"serving": 1, "draining": 1}
    assert found["m@v1"].workers == {"draining": 1}
