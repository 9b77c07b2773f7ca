"""Brings the queue's account of a sweep in line with what storage holds, in both directions.

What is done is what storage has. A job that is called done and has no whole image is made again; a
stored image that is not called done is counted; a sweep that Redis has lost, or lost a part of, is
entered again. Workers may run meanwhile: what one of them holds is left to it, and what slips
through between a look and a change is found when the sweep ends, which compares them once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from producer.done import done_positions
from producer.models import weights_of
from producer.parallel import in_parallel
from producer.png_check import flaw
from producer.results import SweepResults
from producer.stored import stored_sizes
from producer.submission import commit_stored, record_of
from shared.errors import InvalidInput, InvalidSettings, ObjectMissing, StorageError, UnknownSweep
from shared.image_metadata import read_metadata
from shared.records import manifest_key, pin_key

if TYPE_CHECKING:
    from shared.addressing import Address
    from shared.queue import JobQueue, SweepStatus
    from shared.storage import Storage

SLICE = 1 << 20
"""Positions compared at once: about 200 MB of keys, and one listing for each."""
READERS = 16
"""Images read at once; storage keeps 32 sockets open."""
SHOWN_PROBLEMS = 100
"""Problems that are listed; all are counted."""

Kind = Literal["missing", "damaged", "unreadable"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An image that is not as it should be.

    Attributes:
        index: The user's.
        title: What tells its job from the others.
        key: Its object.
        kind: ``missing``: the queue calls it done, and there is no object; ``damaged``: there is
            one, and it is not this job's whole image; ``unreadable``: storage does not give it.
        reason: In a few words.
    """

    index: int
    title: str
    key: str
    kind: Kind
    reason: str


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """What was found, and unless it was a check alone, mended.

    Attributes:
        sweep_id: The sweep.
        state: The queue's state of it now; ``unknown`` where a check found that Redis lost it.
        total: Its jobs.
        stored: Images that storage holds for it and that are not damaged.
        lost: Redis did not know the sweep: it is entered again from its stored manifest.
        torn: Redis had lost a part of it: it is entered again, with its pins.
        uncounted: Stored images that were not called done: they are now.
        missing: Jobs that were called done and have no object: they are pending again.
        damaged: Objects that are not the whole image of their job: deleted, their jobs are
            pending again.
        unreadable: Objects that storage lists but does not give: left alone.
        left: Jobs with one of these faults that a worker holds: it will see to them.
        checked_only: Nothing was changed.
        read: Whether the images were read, or only looked for.
        problems: The first faulty images, by index.
    """

    sweep_id: str
    state: str = ""
    total: int = 0
    stored: int = 0
    lost: bool = False
    torn: bool = False
    uncounted: int = 0
    missing: int = 0
    damaged: int = 0
    unreadable: int = 0
    left: int = 0
    checked_only: bool = False
    read: bool = True
    problems: tuple[Problem, ...] = field(default=())

    @property
    def sound(self) -> bool:
        """Whether there was nothing to mend."""
        faults = self.uncounted + self.missing + self.damaged + self.unreadable + self.left
        return not (self.lost or self.torn or faults)


class Repairer:
    """Repairs sweeps of one pool.

    Args:
        owner: Of sweeps that Redis has lost, and with them whose they were.
    """

    def __init__(self, queue: JobQueue, storage: Storage, owner: str) -> None:
        self._queue = queue
        self._storage = storage
        self._owner = owner

    def repair(
        self,
        sweep_id: str,
        *,
        check: bool = False,
        read: bool = True,
        progress: Progress = lambda done, total: None,
        slice_positions: int = SLICE,
    ) -> Repaired:
        """Compare one sweep with storage, and mend what differs.

        Args:
            check: Change nothing.
            read: Read every image, and delete those that are damaged.
            progress: Called with jobs looked at and jobs in all.
            slice_positions: Compared at once; a multiple of 8.

        Raises:
            UnknownSweep: Neither the queue nor storage knows it.
            InvalidInput: It is cancelled.
            InvalidSettings: There are no credentials for the bucket.
            StorageError: Storage does not answer; what was mended so far stays.
            QueueUnavailable: Redis does not answer; likewise.
        """
        if not self._storage.has_credentials:
            raise InvalidSettings(
                "repair reads the bucket, and there are no credentials for it: "
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
        self._storage.check()
        results = SweepResults.open(self._queue, self._storage, sweep_id)
        found = replace(self._enter(results, check), read=read)
        if not check:
            self._store_records(results)
        for start in range(0, results.total, slice_positions):
            stop = min(start + slice_positions, results.total)
            found = self._compare(results, start, stop, found, progress)
        state = "unknown" if check and found.lost else self._queue.status(sweep_id).state
        return replace(found, state=state)

    def _enter(self, results: SweepResults, check: bool) -> Repaired:
        """See that the queue has the whole sweep."""
        sweep_id = results.manifest.sweep_id
        found = Repaired(sweep_id=sweep_id, total=results.total, checked_only=check)
        try:
            status = self._queue.status(sweep_id)
        except UnknownSweep:
            if not check:
                self._submit(results, None)
            return replace(found, lost=True)
        if status.state == "cancelled":
            raise InvalidInput(
                f"sweep {sweep_id} is cancelled: submit it again, which asks storage what it holds"
            )
        if self._is_whole(sweep_id):
            return found
        if not check:
            self._queue.delete(sweep_id)
            self._submit(results, status)
        return replace(found, torn=True)

    def _is_whole(self, sweep_id: str) -> bool:
        try:
            self._queue.manifest(sweep_id)
        except UnknownSweep:
            return False
        return self._queue.census(sweep_id).whole

    def _submit(self, results: SweepResults, before: SweepStatus | None) -> None:
        """Enter the sweep as it was, pinned to what has rendered for it."""
        sweep_id = results.manifest.sweep_id
        if before is None:
            record = record_of(results.layout, self._owner)
        else:
            record = record_of(
                results.layout, before.owner, priority=before.priority, weight=before.weight
            )
        self._queue.note_weights(weights_of(results.layout))
        self._queue.submit(record)
        for model, pin in results.pins.items():
            self._queue.pin(sweep_id, model, pin.to_text())
        if before is not None and before.state == "paused":
            self._queue.pause(sweep_id)

    def _store_records(self, results: SweepResults) -> None:
        """Put manifest and pins beside the images where they are gone from there."""
        sweep_id = results.manifest.sweep_id
        bodies = {manifest_key(sweep_id): results.manifest.text}
        bodies |= {pin_key(sweep_id, model): pin.to_text() for model, pin in results.pins.items()}
        for key, text in bodies.items():
            if not self._storage.exists(key):
                self._storage.put(key, text.encode(), content_type="application/json")

    def _compare(
        self, results: SweepResults, start: int, stop: int, found: Repaired, progress: Progress
    ) -> Repaired:
        """Compare a slice of positions and mend it."""
        sweep_id = found.sweep_id
        empty = found.checked_only and (found.lost or found.torn)
        # Before storage is asked: what is called done by now was stored before.
        epoch = 0 if empty else self._queue.status(sweep_id).epoch
        done = set[int]() if empty else self._done(sweep_id, start, stop)
        sizes = stored_sizes(results, range(start, stop))
        flagged = set[int]()
        faults = self._read(results, sizes, flagged, progress) if found.read else {}
        for position in sorted(done - set(sizes)):
            if results.layout.block_of(position).model in results.pins:
                faults[position] = _problem(results, position, "missing", "is not in storage")
        uncounted: dict[int, int] = {}
        if results.manifest.reuse:
            since = set[int]() if empty else self._done(sweep_id, start, stop)
            off = done | since | set(faults)
            uncounted = {p: size for p, size in sizes.items() if p not in off}
        held = set[int]()
        if not empty:
            held = self._queue.leased_among(sweep_id, [*faults, *uncounted])
        uncounted = {p: size for p, size in uncounted.items() if p not in held}
        mended = {p: fault for p, fault in faults.items() if p not in held}
        if not found.checked_only:
            self._delete_damaged(results, mended)
            undone = [p for p, fault in mended.items() if fault.kind != "unreadable"]
            self._queue.repair(sweep_id, missing=undone, epoch=epoch)
            black = flagged.intersection(uncounted)
            commit_stored(self._queue, sweep_id, uncounted, flagged=black)
        progress(stop, results.total)
        kinds = [fault.kind for fault in mended.values()]
        problems = sorted((*found.problems, *mended.values()), key=lambda fault: fault.index)
        return replace(
            found,
            stored=found.stored + sum(position not in faults for position in sizes),
            uncounted=found.uncounted + len(uncounted),
            missing=found.missing + kinds.count("missing"),
            damaged=found.damaged + kinds.count("damaged"),
            unreadable=found.unreadable + kinds.count("unreadable"),
            left=found.left + len(faults) - len(mended),
            problems=tuple(problems[:SHOWN_PROBLEMS]),
        )

    def _done(self, sweep_id: str, start: int, stop: int) -> set[int]:
        return set(done_positions(self._queue, sweep_id, stop, start=start))

    def _read(
        self,
        results: SweepResults,
        positions: Iterable[int],
        flagged: set[int],
        progress: Progress,
    ) -> dict[int, Problem]:
        """What is wrong with the stored images of these positions.

        Args:
            flagged: Takes those of the positions that a safety checker blacked out.
        """

        def one(position: int) -> tuple[int, Problem | None]:
            place = _place(results, position)
            try:
                body = self._storage.get(place.key)
                wrong = flaw(body, place.digest)
            except ObjectMissing:  # since it was listed
                return position, _problem(results, position, "missing", "is not in storage")
            except StorageError as exc:
                self._storage.check()  # raises where all of storage is down, not this object alone
                return position, _problem(results, position, "unreadable", f"can't be had: {exc}")
            if wrong is None:
                if read_metadata(body).get("flagged") is True:
                    flagged.add(position)
                return position, None
            return position, _problem(results, position, "damaged", wrong)

        faults: dict[int, Problem] = {}
        with closing(in_parallel(one, positions, READERS)) as outcomes:
            for number, (position, problem) in enumerate(outcomes, start=1):
                if problem is not None:
                    faults[position] = problem
                progress(number, results.total)
        return faults

    def _delete_damaged(self, results: SweepResults, faults: Mapping[int, Problem]) -> None:
        """Delete what is damaged, looked at once more: else it would be taken for the image.

        A worker that has looked before the deletion and commits after it calls the job done again;
        the end of the sweep finds that.
        """
        for position, fault in faults.items():
            if fault.kind != "damaged":
                continue
            place = _place(results, position)
            try:
                damaged = flaw(self._storage.get(place.key), place.digest) is not None
            except ObjectMissing:  # deleted with a twin that comes to the same image
                continue
            if damaged:
                self._storage.delete(place.key)


def _place(results: SweepResults, position: int) -> Address:
    place = results.address_of(results.layout.index_of(position))
    assert place is not None  # only positions with a pin are compared
    return place


def _problem(results: SweepResults, position: int, kind: Kind, reason: str) -> Problem:
    index = results.layout.index_of(position)
    return Problem(
        index=index,
        title=results.title_of(index),
        key=_place(results, position).key,
        kind=kind,
        reason=reason,
    )
