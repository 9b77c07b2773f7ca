"""Submitting one sweep: manifest to storage, record to the queue, and what storage has already."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from producer.done import done_positions
from producer.models import weights_of
from producer.results import SweepResults
from producer.stored import stored_sizes
from shared.errors import InvalidManifest, InvalidSettings, StorageError, UnknownSweep
from shared.records import manifest_key
from shared.stored_chunks import upload_chunks
from shared.stored_inputs import upload_inputs

if TYPE_CHECKING:
    from shared.layout import Layout
    from shared.queue import JobQueue, SweepRecord
    from shared.storage import Storage
    from shared.sweep import Sweep

logger = logging.getLogger(__name__)

PREFILL_LIMIT = 20_000
"""Jobs looked up at submit; in larger sweeps the workers find stored images as they come."""
CHECK_LIMIT = 1_000_000
"""Jobs of a finished sweep that are looked up: about 40 s of digests and 200 MB of keys."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What a submit came to.

    Attributes:
        sweep_id: The sweep's id.
        outcome: ``created``; ``unchanged``, it was under way already; ``restarted``, it had been
            cancelled; ``done``, everything is stored; ``repaired``, it was done but images
            were missing.
        state: The queue's state after it.
        total: Jobs of the sweep.
        reused: Images found in storage and counted as done at once.
        missing: Images that were gone from storage and will be rendered again.
        checked: Whether the images of a finished sweep were looked up in storage; not for
            a producer without credentials, nor beyond CHECK_LIMIT.
        models: Keys of the models that its jobs need.
    """

    sweep_id: str
    outcome: Literal["created", "unchanged", "restarted", "done", "repaired"]
    state: str
    total: int
    reused: int
    missing: int
    checked: bool
    models: tuple[str, ...]


class Submitter:
    """Submits the sweeps of one owner to one pool."""

    def __init__(self, queue: JobQueue, storage: Storage, owner: str) -> None:
        self._queue = queue
        self._storage = storage
        self._owner = owner

    def submit(self, sweep: Sweep) -> Submission:
        """Store the manifest, then queue the jobs, then count what storage already holds.

        Raises:
            InvalidSettings: Storage or queue are not what the settings say, or the sweep has
                rows in chunks or input files and there are no credentials to store them.
            InvalidSweep: An input file has changed since the sweep was read, or one that was
                named by its key is not in the bucket.
            StorageError: Storage does not answer; nothing was queued.
            QueueUnavailable: Redis does not answer.
        """
        has_storage = self._storage.has_credentials
        if not has_storage and (sweep.manifest.tables or sweep.inputs):
            what = "rows" if sweep.manifest.tables else "input files"
            raise InvalidSettings(
                f"the sweep's {what} are kept in the bucket, and there are no credentials for it: "
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
        if has_storage:
            self._store_manifest(sweep)
        self._queue.note_weights(weights_of(sweep.layout))
        submitted = self._queue.submit(make_record(sweep, self._owner))
        reused = missing = 0
        checked = (
            has_storage and submitted.outcome == "done" and sweep.manifest.total <= CHECK_LIMIT
        )
        if checked:
            missing = self._repair(sweep)
        elif has_storage and submitted.outcome in ("created", "restarted"):
            reused = self._prefill(sweep, submitted.epoch)
        return Submission(
            sweep_id=sweep.id,
            outcome="repaired" if missing else submitted.outcome,
            state=self._queue.status(sweep.id).state,
            total=sweep.manifest.total,
            reused=reused,
            missing=missing,
            checked=checked,
            models=models_of(sweep.layout),
        )

    def _store_manifest(self, sweep: Sweep) -> None:
        """Put manifest and rows beside the images, but not over those of another sweep."""
        text = sweep.manifest.text
        try:
            known = self._queue.manifest(sweep.id)  # Redis answers, before anything is written
        except UnknownSweep:
            known = text
        if known == text:
            self._storage.check()
            upload_inputs(self._storage, sweep.inputs)
            for table in sweep.manifest.tables:  # before the queue can hand out their jobs
                upload_chunks(self._storage, table.source, table.digests)
            key = manifest_key(sweep.id)
            self._storage.put(key, text.encode(), content_type="application/json")

    def _repair(self, sweep: Sweep) -> int:
        """Reopen a finished sweep where images are gone; returns how many are."""
        results = SweepResults.open(self._queue, self._storage, sweep.id)
        done = [
            position
            for position in done_positions(self._queue, sweep.id, sweep.manifest.total)
            if sweep.layout.block_of(position).model in results.pins
        ]
        stored = stored_sizes(results, done)
        missing = [position for position in done if position not in stored]
        if missing:
            self._queue.repair(sweep.id, missing=missing)
        return len(missing)

    def _prefill(self, sweep: Sweep, epoch: int) -> int:
        """Count what is stored as done; returns how many images are.

        Only saves time: the workers look for stored images themselves.
        """
        if sweep.manifest.total > PREFILL_LIMIT or not sweep.manifest.reuse:
            return 0
        try:
            results = SweepResults.open(self._queue, self._storage, sweep.id)
            sizes = stored_sizes(results, range(sweep.manifest.total))
        except InvalidManifest:
            return 0  # its pin was stored by another version: the images are not this one's
        except StorageError as exc:
            logger.warning("stored images not counted", extra={"error": str(exc)})
            return 0
        usable = {
            position: size
            for model, held in _by_model(sweep.layout, sizes).items()
            if self._may_reuse(model, held, results)
            for position, size in held.items()
        }
        commit_stored(self._queue, sweep.id, usable, epoch=epoch)
        return len(usable)

    def _may_reuse(self, model: str, held: Mapping[int, int], results: SweepResults) -> bool:
        """Whether images of the stored pin can't be mixed with those of other weights.

        The queue has no pin for a sweep that was just submitted: the next worker sets it, maybe
        one with newer weights. So either a live worker has these weights loaded, or there is
        nobody to ask and nothing left to render.
        """
        loaded = {
            str(worker.get("pin"))
            for worker in self._queue.workers()
            if worker.get("loaded_key") == model
        }
        if loaded:
            return loaded == {results.pins[model].to_text()}
        jobs = sum(block.size for block in results.layout.blocks if block.model == model)
        return len(held) == jobs


def commit_stored(
    queue: JobQueue,
    sweep_id: str,
    sizes: Mapping[int, int],
    *,
    epoch: int | None = None,
    flagged: Collection[int] = (),
) -> None:
    """Count images that storage holds already as done.

    Args:
        sizes: Position to bytes.
        epoch: Of the sweep; the present one if not given.
        flagged: Positions whose image a safety checker blacked out, as far as that is known.
    """
    from shared.queue import CommitGroup

    if not sizes:
        return
    group = CommitGroup(
        sweep_id=sweep_id,
        epoch=queue.status(sweep_id).epoch if epoch is None else epoch,
        positions=tuple(sizes),
        bytes=tuple(sizes.values()),
        reused=True,
        flagged=tuple(flagged),
    )
    queue.commit(None, [group])


def make_record(sweep: Sweep, owner: str) -> SweepRecord:
    """What the queue is told of a sweep."""
    return record_of(sweep.layout, owner, priority=sweep.priority, weight=sweep.weight)


def record_of(layout: Layout, owner: str, *, priority: int = 0, weight: float = 1.0) -> SweepRecord:
    """What the queue is told of a sweep of which there is no more than its manifest."""
    from shared.queue import BlockSpec, SweepRecord

    manifest = layout.manifest
    return SweepRecord(
        id=manifest.sweep_id,
        digest=manifest.digest,
        manifest=manifest.text,
        blocks=tuple(
            BlockSpec(
                model=block.model,
                lane=block.lane,
                recipe=block.recipe,
                size=block.size,
                cost=block.cost,
            )
            for block in layout.blocks
        ),
        owner=owner,
        priority=priority,
        weight=weight,
    )


def models_of(layout: Layout) -> tuple[str, ...]:
    """Keys of the models that a sweep's jobs need, in the order of its blocks."""
    return tuple(dict.fromkeys(block.model for block in layout.blocks))


def _by_model(layout: Layout, sizes: Mapping[int, int]) -> dict[str, dict[int, int]]:
    """Position to bytes, apart by model key."""
    parts: dict[str, dict[int, int]] = {}
    for position, size in sizes.items():
        parts.setdefault(layout.block_of(position).model, {})[position] = size
    return parts
