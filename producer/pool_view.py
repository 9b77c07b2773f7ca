"""A pool's open work by the names of its models, merged and bounded: what its exporter shows.

The queue knows sets of weights by key. People, metrics and deployments know checkpoints by name; a
checkpoint's sets of weights (VAEs, LoRAs, variants) are one model here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shared.backlog import Backlog, Tally
from shared.metric_table import MOST_LANES, MOST_MODELS, OTHER
from shared.scaling import LaneBacklog, ModelBacklog


@dataclass(frozen=True, kw_only=True)
class ModelView:
    """One model of a pool.

    Attributes:
        work: Its open jobs.
        tally: What came of its jobs so far.
        oldest_at: When the oldest sweep with claimable jobs was submitted; None without one.
        workers: That serve it, by state.
    """

    work: ModelBacklog = field(default_factory=ModelBacklog)
    tally: Tally = field(default_factory=Tally)
    oldest_at: float | None = None
    workers: Mapping[str, int] = field(default_factory=dict)


def model_views(
    backlog: Backlog,
    work: Mapping[str, ModelBacklog],
    tallies: Mapping[str, Tally],
    workers: Sequence[Mapping[str, Any]],
    names: Mapping[str, str],
) -> dict[str, ModelView]:
    """Every model of the pool by name.

    Args:
        work: By model key, from ``shared.scaling.model_backlogs``.
        tallies: By model key.
        workers: What the live ones say of themselves.
        names: Model key to name; one without a name goes by its key.
    """
    keys: dict[str, list[str]] = {}
    for key in sorted({*work, *tallies}):
        keys.setdefault(names.get(key, key), []).append(key)
    states: dict[str, dict[str, int]] = {}
    for worker in workers:
        state = "draining" if worker.get("draining") else "serving"
        for name in served_names(worker).values():
            keys.setdefault(name, [])
        for name in set(served_names(worker).values()):
            counts = states.setdefault(name, {})
            counts[state] = counts.get(state, 0) + 1
    return {
        name: ModelView(
            work=_added([work[key] for key in its_keys if key in work]),
            tally=_tallied([tallies[key] for key in its_keys if key in tallies]),
            oldest_at=min(
                (backlog.oldest[k] for k in its_keys if k in backlog.oldest), default=None
            ),
            workers=states.get(name, {}),
        )
        for name, its_keys in sorted(keys.items())
    }


def served_names(worker: Mapping[str, Any]) -> dict[str, str]:
    """Model key to name, of what a worker says that it serves."""
    return {
        served["key"]: option(served["model"], served.get("revision"))
        for served in worker.get("served", ())
    }


def option(model: str, revision: str | None) -> str:
    """``MODEL`` or ``MODEL@REVISION``, as ``seedbed worker --model`` takes it."""
    return model if revision is None else f"{model}@{revision}"


def bounded(views: Mapping[str, ModelView]) -> dict[str, ModelView]:
    """The same with a bounded number of models and lanes: the rest is added up as OTHER.

    Models with workers come first, then those with the most work; lanes by their work.
    """
    ranked = sorted(
        views,
        key=lambda name: (-sum(views[name].workers.values()), -views[name].work.seconds, name),
    )
    kept = {name: _with_few_lanes(views[name]) for name in sorted(ranked[:MOST_MODELS])}
    rest = [views[name] for name in ranked[MOST_MODELS:]]
    if rest:
        work = _added([view.work for view in rest])
        together = LaneBacklog()
        for lane in work.lanes.values():
            together = _sum(together, lane)
        kept[OTHER] = ModelView(
            work=replace(work, lanes={OTHER: together}),
            tally=_tallied([view.tally for view in rest]),
            oldest_at=min((v.oldest_at for v in rest if v.oldest_at is not None), default=None),
        )
    return kept


def _with_few_lanes(view: ModelView) -> ModelView:
    lanes = view.work.lanes
    if len(lanes) <= MOST_LANES:
        return view
    ranked = sorted(lanes, key=lambda lane: (-lanes[lane].seconds, lane))
    few = {lane: lanes[lane] for lane in ranked[:MOST_LANES]}
    few[OTHER] = LaneBacklog()
    for lane in ranked[MOST_LANES:]:
        few[OTHER] = _sum(few[OTHER], lanes[lane])
    return replace(view, work=replace(view.work, lanes=few))


def _sum(first: LaneBacklog, second: LaneBacklog) -> LaneBacklog:
    return first.plus(pending=second.pending, leased=second.leased, seconds=second.seconds)


def _added(parts: Iterable[ModelBacklog]) -> ModelBacklog:
    lanes: dict[str, LaneBacklog] = {}
    stranded = finalising = 0
    for part in parts:
        stranded, finalising = stranded + part.stranded, finalising + part.finalising
        for name, lane in part.lanes.items():
            lanes[name] = _sum(lanes.get(name, LaneBacklog()), lane)
    return ModelBacklog(lanes=lanes, stranded=stranded, finalising=finalising)


def _tallied(parts: Iterable[Tally]) -> Tally:
    found = Tally()
    for part in parts:
        found = Tally(
            done=found.done + part.done,
            reused=found.reused + part.reused,
            dead=found.dead + part.dead,
            expired=found.expired + part.expired,
        )
    return found
