"""Why jobs wait that no worker takes: for which weights, and what the pool serves instead."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from producer.served import served_models
from shared.errors import StorageError
from shared.weights import AllowList, WeightsName

if TYPE_CHECKING:
    from shared.layout import Layout
    from shared.queue import JobQueue, SweepStatus

LISTED = 10
"""Served models that a sentence names."""


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Weights that jobs wait for.

    Attributes:
        weights: Which.
        reason: A sentence: what is missing, and what would be right.
        refused: Every worker of the pool has said no; where False, one may come or has yet to look.
    """

    weights: WeightsName
    reason: str
    refused: bool


class Waits:
    """Looks at one sweep again and again."""

    def __init__(self, queue: JobQueue, layout: Layout) -> None:
        self._queue = queue
        self._layout = layout
        self._first: dict[str, int] = {}
        for block in layout.blocks:
            self._first.setdefault(block.model, block.offset)
        self._names: dict[str, WeightsName] = {}

    def look(self, status: SweepStatus) -> tuple[Wait, ...]:
        """What of the sweep nobody will render as the pool is now; nothing for a paused one.

        Raises:
            QueueUnavailable: Redis does not answer.
        """
        if status.state != "running" or not status.pending:
            return ()
        keys = self._queue.open_models(status.id, tuple(self._first))
        return why_waiting(self._named(keys), self._queue.workers(), pins=status.pins)

    def _named(self, keys: Sequence[str]) -> dict[str, WeightsName]:
        missing = [key for key in keys if key not in self._names]
        self._names |= self._queue.weights(missing)
        for key in missing:
            if key not in self._names:  # whoever submitted it has not told the workers
                try:
                    self._names[key] = WeightsName.of(self._layout.job_at(self._first[key]))
                except StorageError:
                    continue  # its rows can't be read now; a later look may
        return {key: self._names[key] for key in keys if key in self._names}


def all_refused(waits: Iterable[Wait], status: SweepStatus) -> bool:
    """Whether nothing more will happen to a sweep with the workers that there are."""
    found = list(waits)
    return status.leased == 0 and bool(found) and all(wait.refused for wait in found)


def why_waiting(
    wanted: Mapping[str, WeightsName],
    workers: Sequence[Mapping[str, Any]],
    *,
    pins: Mapping[str, str],
) -> tuple[Wait, ...]:
    """Those of the weights that no worker will serve as things are, and why.

    Args:
        wanted: Key to weights with claimable jobs.
        workers: What the live workers say of themselves.
        pins: Key to what the sweep is pinned to, as far as it is.
    """
    found = []
    for key, name in wanted.items():
        served = [
            entry for worker in workers for entry in worker.get("served", ()) if entry["key"] == key
        ]
        if served:
            known = {entry.get("pin") for entry in served}
            if key in pins and not known & {None, pins[key]}:
                found.append(Wait(weights=name, reason=_other_weights(name), refused=True))
            continue
        errors = [
            str(error)
            for worker in workers
            if (error := worker.get("unserved", {}).get(key)) is not None
        ]
        missing = [
            _allowed_by(worker).missing(name)
            for worker in workers
            if key not in worker.get("unserved", {})
        ]
        if None in missing:
            continue  # a worker may load them, and will look for them soon
        found.append(
            Wait(
                weights=name,
                reason=_reason(name, errors, missing, workers),
                refused=bool(workers),
            )
        )
    return tuple(found)


def _allowed_by(worker: Mapping[str, Any]) -> AllowList:
    return AllowList(
        models=worker.get("model_options", ()),
        variant=worker.get("variant"),
        vaes=worker.get("vaes", ()),
        loras=worker.get("loras", ()),
        patterns=worker.get("allow", ()),
    )


def _reason(
    name: WeightsName,
    errors: Sequence[str],
    missing: Sequence[str | None],
    workers: Sequence[Mapping[str, Any]],
) -> str:
    variant = [] if name.variant is None else [f"--variant={name.variant}"]
    command = shlex.join(["seedbed", "worker", "--model", name.option, *variant, *name.parts])
    start = f"start one with '{command}'"
    if not workers:
        needed = f"no worker is ready in the pool, and the sweep needs {name.title}"
        return f"{needed}: {start}, or wait for one that is starting"
    options = list(dict.fromkeys(item.option for item in served_models(workers)))
    listed = ", ".join(options[:LISTED]) or "nothing yet"
    if len(options) > LISTED:
        listed += f" and {len(options) - LISTED} more"
    if errors:
        return f"no worker can serve {name.title} (the pool serves {listed}): {errors[0]}"
    lacking = min(filter(None, missing), key=len)
    which = "" if lacking == f"model {name.option!r}" else f", and none may load {lacking}"
    return f"no worker serves {name.title}{which} (the pool serves {listed}): {start}"


def _other_weights(name: WeightsName) -> str:
    return (
        f"the workers of {name.title} have other weights or other settings that change pixels than "
        "those that the sweep was begun with: start a worker with the same, or cancel the sweep "
        "and submit it under another name"
    )
