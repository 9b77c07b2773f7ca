"""What a reader needs of one sweep: which image each of its jobs made, and where it lies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from shared.addressing import Address, address
from shared.errors import InvalidManifest, ObjectMissing, UnknownSweep
from shared.fields import Value
from shared.job import Job
from shared.lanes import weights_key
from shared.layout import Layout
from shared.manifest import Manifest, parse_manifest
from shared.mistakes import shown
from shared.pin import Pin
from shared.records import manifest_key, pin_key
from shared.stored_chunks import StoredChunks

if TYPE_CHECKING:
    from shared.queue import JobQueue
    from shared.storage import Storage

SWEEP_ID = re.compile(r"[a-z0-9-]{1,96}")
"""An id, or the beginning of one; nothing that could leave its folder in storage."""


class SweepResults:
    """One sweep, read only: its jobs by the user's index, and the images they made.

    Attributes:
        manifest: The sweep.
        layout: Between the user's indices and the queue's positions.
        pins: By model key, what rendered (or will render) its jobs; a model that no worker
            has claimed from yet is missing.
        storage: Where the images are.
    """

    def __init__(
        self, manifest: Manifest, layout: Layout, pins: Mapping[str, Pin], storage: Storage
    ) -> None:
        self.manifest = manifest
        self.layout = layout
        self.pins = dict(pins)
        self.storage = storage

    @classmethod
    def open(cls, queue: JobQueue | None, storage: Storage, sweep_id: str) -> SweepResults:
        """Find a sweep in the queue, or in storage where the queue has lost it.

        Raises:
            UnknownSweep: Neither knows it.
        """
        if not SWEEP_ID.fullmatch(sweep_id):
            raise UnknownSweep(sweep_id)
        found = _from_queue(queue, sweep_id) if queue is not None else None
        text, pins = found or (_stored_manifest(storage, sweep_id), {})
        layout = Layout(parse_manifest(text, StoredChunks(storage)))
        for model in {block.model for block in layout.blocks} - set(pins):
            stored = _stored_pin(storage, sweep_id, model)
            if stored is not None:
                pins[model] = stored
        return cls(layout.manifest, layout, pins, storage)

    @property
    def total(self) -> int:
        """How many jobs the sweep has."""
        return self.layout.total

    def job_of(self, index: int) -> Job:
        """The job at the user's index, the checkpoint's own size and scheduler filled in."""
        job = self.layout.job(index)
        pin = self._pin_of(job)
        if pin is None:
            return job
        return replace(
            job,
            height=job.height or pin.height,
            width=job.width or pin.width,
            scheduler=job.scheduler or pin.scheduler,
        )

    def address_of(self, index: int) -> Address | None:
        """Where the image is or will be; None as long as no worker has shown its weights."""
        job = self.layout.job(index)
        pin = self._pin_of(job)
        return None if pin is None else address(job, pin, self.manifest.output)

    def digest_of(self, index: int) -> str | None:
        """The image's identity, see `address_of`."""
        found = self.address_of(index)
        return None if found is None else found.digest

    def key_of(self, index: int) -> str | None:
        """The image's object key, see `address_of`."""
        found = self.address_of(index)
        return None if found is None else found.key

    def varying(self, index: int) -> dict[str, Value]:
        """The axis values of one job, in the user's axis order."""
        values: dict[str, Value] = {}
        for axis, digit in zip(self.manifest.axes, self.layout.digits(index), strict=True):
            values.update(axis.values(digit))
        return values

    def title_of(self, index: int) -> str:
        """A line that tells the job from its siblings: ``#3 seed=3, guidance_scale=7.5``."""
        return line_of(index, self.varying(index))

    def _pin_of(self, job: Job) -> Pin | None:
        return self.pins.get(weights_key(job))


def line_of(index: int, values: Mapping[str, Value]) -> str:
    """An index and values on one line."""
    shown = (f"{name}={_text(value)}" for name, value in values.items())
    return f"#{index} {', '.join(shown)}".rstrip()


def stored_sweeps(storage: Storage, beginning: str) -> list[str]:
    """Ids of the sweeps whose manifest storage holds, of those that begin like this."""
    if not SWEEP_ID.fullmatch(beginning):
        return []
    keys = (item.key for item in storage.list(f"sweeps/{beginning}"))
    ids = (key.split("/")[1] for key in keys if key.endswith("/manifest.json"))
    return [sweep_id for sweep_id in ids if SWEEP_ID.fullmatch(sweep_id)]


def _from_queue(queue: JobQueue, sweep_id: str) -> tuple[str, dict[str, Pin]] | None:
    try:
        text, pins = queue.manifest(sweep_id), queue.status(sweep_id).pins
    except UnknownSweep:
        return None
    return text, {model: Pin.from_text(pin) for model, pin in pins.items()}


def _stored_manifest(storage: Storage, sweep_id: str) -> str:
    try:
        return storage.get(manifest_key(sweep_id)).decode()
    except ObjectMissing:
        raise UnknownSweep(sweep_id) from None
    except UnicodeDecodeError as exc:
        raise InvalidManifest(f"manifest: {manifest_key(sweep_id)} is not UTF-8 text") from exc


def _stored_pin(storage: Storage, sweep_id: str, model: str) -> Pin | None:
    try:
        return Pin.from_text(storage.get(pin_key(sweep_id, model)).decode(errors="replace"))
    except ObjectMissing:
        return None


def _text(value: Value) -> str:
    """A value on one line; texts are quoted, cut, and their control characters escaped."""
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else shown(value)
