"""The Python API: everything the command line does, on one pool."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from producer.references import pick_sweep
from producer.submission import Submission, Submitter, models_of
from shared.errors import (
    InvalidInput,
    InvalidSettings,
    QueueUnavailable,
    UnknownSweep,
    WaitTimeout,
)
from shared.layout import Layout
from shared.manifest import parse_manifest
from shared.settings import Settings
from shared.stored_chunks import StoredChunks
from shared.sweep import Sweep
from shared.verifying import MAX_LEVELS

if TYPE_CHECKING:
    from producer.dead_jobs import DeadJob
    from producer.fetch import Fetched
    from producer.find import Finding
    from producer.grid import DrawnGrid, GridOptions
    from producer.repair import Repaired
    from producer.results import SweepResults
    from producer.served import ServedModel
    from producer.verify import Verified
    from producer.waiting import Wait
    from shared.capacity import Capacity
    from shared.doorbell import Doorbell
    from shared.queue import JobQueue, State, SweepStatus
    from shared.storage import Storage

LISTED_FAILURES = 10_000
"""Dead jobs that a grid marks as failed; any others look as if they were not done yet."""
ENDED = ("done", "cancelled")
"""States in which nothing more happens by itself."""
WATCH_SECONDS = 0.5
"""How often `Client.watch` asks the queue."""
OUTAGE_SECONDS = 30.0
"""How long a watch bears a Redis that does not answer, such as one that restarts."""


@dataclass(frozen=True, kw_only=True)
class JobFailure:
    """A job that failed at least once.

    Attributes:
        index: The user's.
        attempts: Tries charged to it.
        reason: What the last one died of.
        worker: Who tried.
        at: When, seconds since 1970, UTC.
        dead: No further tries until it is revived by `Client.retry`.
    """

    index: int
    attempts: int
    reason: str
    worker: str
    at: float
    dead: bool


class Client:
    """One pool: its queue, its storage and its doorbells, each connected at first use.

    Sweeps are named by id, by a unique beginning of the id, or by name.

    Example:
        with Client(Settings.resolve({}, os.environ)) as client:
            submission = client.submit(Sweep.define(model="demo", prompt="a red circle"))
            client.wait(submission.sweep_id, timeout_seconds=600)
    """

    def __init__(self, settings: Settings) -> None:
        """Nothing is sent yet.

        Raises:
            InvalidSettings: No Redis is configured.
        """
        if settings.redis_url is None:
            raise InvalidSettings(
                "no pool: set SEEDBED_REDIS_URL or --redis-url, or start one here with 'seedbed up'"
            )
        self.settings = settings
        self._redis_url = settings.redis_url

    def close(self) -> None:
        """Close what is connected; the next call connects again."""
        opened = self.__dict__
        if "doorbell" in opened:
            opened.pop("doorbell").close()
        if "storage" in opened:
            opened.pop("storage").close()
        if "queue" in opened:
            opened.pop("queue").client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @cached_property
    def queue(self) -> JobQueue:
        """The pool's lanes in Redis."""
        from shared.queue import JobQueue

        return JobQueue.connect(self._redis_url, self.settings.pool)

    @cached_property
    def storage(self) -> Storage:
        """The pool's bucket."""
        from shared.storage import Storage

        return Storage.connect(self.settings)

    @cached_property
    def doorbell(self) -> Doorbell:
        """Wakes workers up."""
        from shared.doorbell import Doorbell, make_app

        broker, pool = self.settings.broker_url or self._redis_url, self.settings.pool
        return Doorbell(make_app(broker, pool), pool)

    def submit(self, sweep: Sweep) -> Submission:
        """Queue a sweep; submitting it again is harmless and mends what is missing.

        Raises:
            StorageError: Storage does not answer; nothing was queued.
            QueueUnavailable: Redis does not answer.
            InvalidSettings: One of them is not what the settings say.
        """
        submission = Submitter(self.queue, self.storage, self.settings.owner).submit(sweep)
        if submission.state == "running":
            self.ring(submission.models)
        return submission

    def ring(self, models: Sequence[str]) -> None:
        """Tell these models' workers that there may be work; a lost ring costs seconds."""
        for model in models:
            self.doorbell.ring(model)

    def find(self, reference: str) -> str:
        """The id of the sweep that an id, a unique beginning of one, or a name means.

        Raises:
            UnknownSweep: There is none.
            InvalidInput: There are several.
        """
        try:
            return self.queue.status(reference).id
        except UnknownSweep:
            return pick_sweep(reference, [status.id for status in self.queue.sweeps()])

    def layout(self, reference: str) -> Layout:
        """The sweep's manifest and blocks: the way from an index to its job."""
        text = self.queue.manifest(self.find(reference))
        return Layout(parse_manifest(text, StoredChunks(self.storage)))

    def status(self, reference: str) -> SweepStatus:
        """Counts and state of one sweep."""
        return self.queue.status(self.find(reference))

    def waits(self, reference: str) -> tuple[Wait, ...]:
        """Weights that its jobs wait for and no worker of the pool serves, and why."""
        from producer.waiting import Waits

        sweep_id = self.find(reference)
        return Waits(self.queue, self.layout(sweep_id)).look(self.queue.status(sweep_id))

    def sweeps(self) -> list[SweepStatus]:
        """All sweeps of the pool, newest first."""
        return self.queue.sweeps()

    def failures(self, reference: str, *, limit: int = 100) -> list[JobFailure]:
        """Jobs that failed, dead or still being tried."""
        sweep_id = self.find(reference)
        layout = self.layout(sweep_id)
        return [
            JobFailure(
                index=layout.index_of(failure.position),
                attempts=failure.attempts,
                reason=failure.reason,
                worker=failure.worker,
                at=failure.at,
                dead=failure.dead,
            )
            for failure in self.queue.failures(sweep_id, limit)
        ]

    def workers(self) -> list[dict[str, Any]]:
        """What the pool's live workers say of themselves."""
        return self.queue.workers()

    def models(self) -> tuple[ServedModel, ...]:
        """What its live workers serve, by name."""
        from producer.served import served_models

        return served_models(self.workers())

    def capacities(self) -> list[Capacity]:
        """What its workers have measured of their devices, by model, device and size."""
        return self.queue.capacities()

    def pause(self, reference: str) -> State:
        """Hand out no more jobs of it; what is being rendered is finished.

        Returns:
            The sweep's state now, as the next two do.
        """
        return self.queue.pause(self.find(reference))

    def resume(self, reference: str) -> State:
        """End a pause.

        Raises:
            InvalidManifest: A worker would refuse it at once: its manifest can't be read.
        """
        sweep_id = self.find(reference)
        models = models_of(self.layout(sweep_id))
        state = self.queue.resume(sweep_id)
        self.ring(models)
        return state

    def cancel(self, reference: str) -> State:
        """Render no more of it; stored images stay, and submitting it again goes on."""
        return self.queue.cancel(self.find(reference))

    def delete(self, reference: str) -> str:
        """Forget it in the queue; stored images stay. Returns its id."""
        try:
            self.queue.delete(reference)  # also one whose record is malformed
        except UnknownSweep:
            reference = self.find(reference)
            self.queue.delete(reference)
        return reference

    def dead_jobs(self, reference: str) -> list[DeadJob]:
        """Jobs that were given up, by index, each with the command that renders it alone."""
        from producer.dead_jobs import dead_jobs

        return dead_jobs(self.queue, self.results(self.find(reference)))

    def retry(self, reference: str, *, indices: Iterable[int] | None = None) -> int:
        """Revive dead jobs, all or those at ``indices``; returns how many there were.

        Raises:
            InvalidInput: An index is outside the sweep.
        """
        sweep_id = self.find(reference)
        layout = self.layout(sweep_id)
        positions: set[int] | None = None if indices is None else set()
        for index in indices or ():
            if not 0 <= index < layout.total:
                raise InvalidInput(
                    f"index {index} is not in sweep {sweep_id}: write one from 0 to "
                    f"{layout.total - 1}"
                )
            if positions is not None:
                positions.add(layout.position_of(index))
        revived = self.queue.retry(sweep_id, None if positions is None else sorted(positions))
        if revived:
            self.ring(models_of(layout))
        return revived

    def watch(
        self,
        reference: str,
        *,
        interval_seconds: float = WATCH_SECONDS,
        timeout_seconds: float = math.inf,
    ) -> Iterator[SweepStatus]:
        """The sweep's status again and again, until it is done or cancelled.

        Raises:
            QueueUnavailable: Redis has not answered for OUTAGE_SECONDS.
            WaitTimeout: The sweep has not ended after ``timeout_seconds``; the work goes on.
        """
        sweep_id = self.find(reference)
        answered_at = started_at = time.monotonic()
        while True:
            try:
                status = self.queue.status(sweep_id)
            except QueueUnavailable:
                if time.monotonic() - answered_at > OUTAGE_SECONDS:
                    raise
            else:
                answered_at = time.monotonic()
                yield status
                if status.state in ENDED:
                    return
                if time.monotonic() - started_at >= timeout_seconds:
                    raise WaitTimeout(
                        f"sweep {sweep_id} is {status.state} with {status.done:,} of "
                        f"{status.total:,} images after {timeout_seconds:g} s; it goes on"
                    )
            time.sleep(interval_seconds)

    def wait(self, reference: str, *, timeout_seconds: float = math.inf) -> SweepStatus:
        """Wait until the sweep is done or cancelled; returns its last status.

        Raises:
            WaitTimeout: It has not ended in time; the work goes on.
        """
        for status in self.watch(reference, timeout_seconds=timeout_seconds):
            last = status
        return last

    def results(self, reference: str) -> SweepResults:
        """Where its images are; also of a sweep that only storage remembers.

        Raises:
            UnknownSweep: Neither knows it.
        """
        from producer.results import SweepResults, stored_sweeps

        try:
            sweep_id = self.find(reference)
        except UnknownSweep:
            sweep_id = pick_sweep(reference, stored_sweeps(self.storage, reference))
        return SweepResults.open(self.queue, self.storage, sweep_id)

    def repair(
        self,
        reference: str,
        *,
        check: bool = False,
        read: bool = True,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Repaired:
        """Bring the queue in line with storage, see `producer.repair.Repairer`.

        Args:
            reference: Also of a sweep that only storage remembers.
            check: Change nothing.
            read: Read every image, not only look for it.
            progress: Called with jobs looked at and jobs in all.
        """
        from producer.repair import Repairer

        results = self.results(reference)
        repairer = Repairer(self.queue, self.storage, self.settings.owner)
        found = repairer.repair(
            results.manifest.sweep_id, check=check, read=read, progress=progress
        )
        if not check and found.state == "running":
            self.ring(models_of(results.layout))
        return found

    def verify(
        self,
        reference: str,
        *,
        sample: int,
        environ: Mapping[str, str],
        seed: int = 0,
        max_levels: int | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Verified:
        """Render a sample of its images again, each alone, and compare them.

        Args:
            sample: How many images.
            environ: Of the process that renders, see `producer.verify.render_again`.
            seed: Of the sample.
            max_levels: Of 255: how far an image may be off; None is 1, and 0 in a reproducible
                sweep.
            progress: Called with images compared and images in all.
        """
        from producer.verify import Verified, choose, render_again, wanted_images

        results = self.results(reference)
        if max_levels is None:
            max_levels = 0 if results.manifest.fixed["reproducible"] else MAX_LEVELS
        count, indices = self._done_indices(results)
        chosen = wanted_images(results, choose(indices, count, sample, seed))
        return Verified(
            sweep_id=results.manifest.sweep_id,
            done=count,
            images=render_again(chosen, environ, progress=progress),
            max_levels=max_levels,
        )

    def fetch(
        self,
        reference: str,
        folder: Path | None = None,
        *,
        name: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Fetched:
        """Download its images that are done, see `producer.fetch.fetch`.

        Args:
            folder: None is one named after the sweep.
            progress: Called with images looked at and images in all.
        """
        from producer.fetch import fetch
        from producer.naming import folder_of

        results = self.results(reference)
        total, indices = self._done_indices(results)

        def moved(found: Fetched) -> None:
            if progress is not None:
                progress(found.total, total)

        folder = folder or folder_of(results.manifest)
        return fetch(results, indices, folder, name=name, progress=moved)

    def grid(
        self,
        reference: str,
        path: Path | None = None,
        *,
        options: GridOptions | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> DrawnGrid:
        """Draw its contact sheets, see `producer.grid.draw_grid`.

        Args:
            path: None is ``contact-sheet.png`` in a folder named after the sweep.
        """
        from producer.grid import CONTACT_SHEET, draw_grid
        from producer.naming import folder_of

        results = self.results(reference)
        path = path or folder_of(results.manifest) / CONTACT_SHEET
        failed = self._dead_indices(results)
        return draw_grid(results, path, options, failed=failed, progress=progress)

    def search(self, reference: str, where: str | None = None) -> Finding:
        """Jobs of a sweep by what made them, see `producer.find.Finding`.

        Args:
            where: Such as ``guidance_scale >= 7 and prompt like '%star%'``; None is all of them.

        Raises:
            InvalidInput: The condition does more than compare.
        """
        from producer.find import Finding

        return Finding.ask(self.queue, self.results(reference), where)

    def _done_indices(self, results: SweepResults) -> tuple[int, Iterable[int]]:
        """Images that the queue calls done; where it has lost the sweep, all may be there."""
        from producer.done import done_positions

        sweep_id = results.manifest.sweep_id
        try:
            count = self.queue.status(sweep_id).done
        except UnknownSweep:
            return results.total, range(results.total)
        positions = done_positions(self.queue, sweep_id, results.total)
        return count, map(results.layout.index_of, positions)

    def _dead_indices(self, results: SweepResults) -> frozenset[int]:
        try:
            failures = self.queue.failures(results.manifest.sweep_id, LISTED_FAILURES)
        except UnknownSweep:
            return frozenset()
        return frozenset(
            results.layout.index_of(failure.position) for failure in failures if failure.dead
        )
