"""Puts a sweep's manifest and pins beside its images, so that storage alone tells its story."""

from __future__ import annotations

from collections import OrderedDict

from shared.pin import Pin
from shared.records import manifest_key, pin_key
from shared.storage import Storage
from worker.sweeps import ClaimedSweeps

REMEMBERED = 1024
"""Sweeps known to be recorded; forgetting one costs a HEAD and a PUT."""


class Recorder:
    """Writes each sweep's records once per process."""

    def __init__(self, storage: Storage, sweeps: ClaimedSweeps, model: str, pin: Pin) -> None:
        self._storage = storage
        self._sweeps = sweeps
        self._model = model
        self._pin = pin
        self._recorded: OrderedDict[str, None] = OrderedDict()

    def ensure(self, sweep_id: str) -> None:
        """Store the manifest, if its producer could not, and this worker's pin.

        Raises:
            StorageError: Storage does not take them; the caller tries again.
        """
        if sweep_id in self._recorded:
            return
        if not self._storage.exists(manifest_key(sweep_id)):
            text = self._sweeps.layout(sweep_id).manifest.text
            self._storage.put(
                manifest_key(sweep_id), text.encode(), content_type="application/json"
            )
        self._storage.put(
            pin_key(sweep_id, self._model),
            self._pin.to_text().encode(),
            content_type="application/json",
        )
        self._recorded[sweep_id] = None
        while len(self._recorded) > REMEMBERED:
            self._recorded.popitem(last=False)
