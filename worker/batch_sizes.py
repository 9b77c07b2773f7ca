"""How many jobs go into a batch: as told, or as measured for their size, but no more than fit."""

from __future__ import annotations

import logging

from shared.job import Job
from worker.calibration import Calibrator
from worker.engine import StockEngine
from worker.packer import fixed_jobs

logger = logging.getLogger(__name__)


class BatchSizes:
    """The batch sizes of one loaded model."""

    def __init__(
        self, engine: StockEngine, calibrator: Calibrator, *, fixed: int | None, first: Job
    ) -> None:
        """Know the size for a first job, which is measured if need be.

        Args:
            fixed: Images of every batch; None: as measured.
            first: A job such as most will be.
        """
        self._engine = engine
        self._calibrator = calibrator
        self._fixed = fixed
        self._lowered: dict[tuple[int, int, bool], int] = {}
        self._last = first
        self._planned = 1
        self.size(first)

    @property
    def current(self) -> int:
        """What to claim: the size for the last job, whose lane and recipe go on most likely."""
        return self._engine.cap(self._last).rows_to_try(self._planned)

    def knows(self, job: Job) -> bool:
        """Whether jobs of this size need no measuring now."""
        fixed = self._fixed is not None or job.reproducible
        return bool(fixed) or self._calibrator.knows(*self._engine.traits.size(job))

    def size(self, job: Job) -> int:
        """How many jobs like this one to render together; measures a size not met before.

        Of reproducible ones as many as their batches have rows for, which are rendered anyway.
        """
        if job.reproducible:
            planned = fixed_jobs(job, self._engine.traits)
        else:
            planned = self._fixed or self._measured(job)
        self._last, self._planned = job, planned
        if self.current < self._planned:
            self._tell()
        return self.current

    def _measured(self, job: Job) -> int:
        capacity = self._calibrator.capacity(*self._engine.traits.size(job))
        if capacity is None:
            return 1
        return capacity.batch_size(2 if self._engine.traits.has_two_halves(job) else 1)

    def _tell(self) -> None:
        height, width = self._engine.traits.size(self._last)
        place = (height, width, self._last.guided)
        if self._lowered.get(place) == self.current:
            return
        self._lowered[place] = self.current
        logger.warning(
            "memory ran out, batches are smaller from now on",
            extra={
                "height": height,
                "width": width,
                "guided": self._last.guided,
                "planned": self._planned,
                "rows": self.current,
            },
        )
