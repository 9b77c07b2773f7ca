"""The Python API: everything the command line does, on one pool."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from producer.done import done_indices
from producer.pool_connection import PoolConnection
from producer.references import pick_sweep
from producer.submission import Submission, Submitter, models_of
from producer.watching import WATCH_SECONDS, watch
from shared.errors import InvalidInput, UnknownSweep
from shared.layout import Layout
from shared.manifest import parse_manifest
from shared.stored_chunks import StoredChunks
from shared.sweep import Sweep
from shared.verifying import MAX_LEVELS

if TYPE_CHECKING:
    from producer.failures import DeadJob, JobFailure
    from producer.fetch import Fetched
    from producer.find import Finding
    from producer.grid import DrawnGrid, GridOptions
    from producer.repair import Repaired
    from producer.results import SweepResults
    from producer.served import ServedModel
    from producer.verify import Verified
    from producer.waiting import Wait
    from shared.capacity import Capacity
    from shared.queue import State, SweepStatus

LISTED_FAILURES = 10_000
"""Dead jobs that a grid marks as failed; any others look as if they were not done yet."""


class Client(PoolConnection):
    """What can be done with one pool.

    Sweeps are named by id, by a unique beginning of the id, or by name.

    Example:
        with Client(Settings.resolve({}, os.environ)) as client:
            submission = client.submit(Sweep.define(model="demo", prompt="a red circle"))
            client.wait(submission.sweep_id, timeout_seconds=600)
    """

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
        from producer.failures import failed_jobs

        sweep_id = self.find(reference)
        return failed_jobs(self.queue, sweep_id, self.layout(sweep_id), limit=limit)

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
        from producer.failures import dead_jobs

        return dead_jobs(self.queue, self.results(self.find(reference)))

    def retry(self, reference: str, *, indices: Iterable[int] | None = None) -> int:
        """Revive dead jobs, all or those at ``indices``; returns how many there were.

        Raises:
            InvalidInput: An index is outside the sweep.
        """
        sweep_id = self.find(reference)
        layout = self.layout(sweep_id)
        positions = None if indices is None else _positions_of(layout, indices)
        revived = self.queue.retry(sweep_id, positions)
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
            QueueUnavailable: Redis has not answered for half a minute.
            WaitTimeout: The sweep has not ended after ``timeout_seconds``; the work goes on.
        """
        return watch(
            self.queue,
            self.find(reference),
            interval_seconds=interval_seconds,
            timeout_seconds=timeout_seconds,
        )

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
        count, indices = done_indices(self.queue, results)
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
        total, indices = done_indices(self.queue, results)

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
        from producer.failures import dead_indices
        from producer.grid import CONTACT_SHEET, draw_grid
        from producer.naming import folder_of

        results = self.results(reference)
        path = path or folder_of(results.manifest) / CONTACT_SHEET
        failed = dead_indices(self.queue, results, limit=LISTED_FAILURES)
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


def _positions_of(layout: Layout, indices: Iterable[int]) -> list[int]:
    """Where the queue keeps these jobs, each once."""
    found = set()
    for index in indices:
        if not 0 <= index < layout.total:
            raise InvalidInput(
                f"index {index} is not in sweep {layout.manifest.sweep_id}: write one from 0 to "
                f"{layout.total - 1}"
            )
        found.add(layout.position_of(index))
    return sorted(found)
