"""The sweeps this worker has claimed from: manifests read once, positions turned into jobs."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from shared.errors import InvalidManifest, InvalidSweep
from shared.layout import Layout
from shared.manifest import parse_manifest
from shared.queue import JobQueue
from shared.storage import Storage
from shared.stored_chunks import StoredChunks

KEPT = 64
"""How many sweeps' layouts are held; a layout is a few times its manifest's size, and the chunks
of its rows that were used last (`shared.tables.CACHED_CHARS`)."""


class ClaimedSweeps:
    """An LRU of layouts by sweep id; ids hold the manifest's digest, so none goes stale."""

    def __init__(self, queue: JobQueue, storage: Storage) -> None:
        self._queue = queue
        self._chunks = StoredChunks(storage)
        self._layouts: OrderedDict[str, Layout] = OrderedDict()
        self._lock = Lock()

    def layout(self, sweep_id: str) -> Layout:
        """The sweep's layout. The rows of its long axes are read when a job needs them.

        Raises:
            InvalidManifest: What lies in Redis is no manifest of this version, or another's.
            UnknownSweep: It has been deleted.
        """
        with self._lock:
            if sweep_id in self._layouts:
                self._layouts.move_to_end(sweep_id)
                return self._layouts[sweep_id]
        manifest = parse_manifest(self._queue.manifest(sweep_id), self._chunks)
        if manifest.sweep_id != sweep_id:
            raise InvalidManifest(
                f"manifest: its digest makes it {manifest.sweep_id}, but it lies under {sweep_id}: "
                f"delete the sweep and submit it again"
            )
        try:
            layout = Layout(manifest)
        except InvalidSweep as exc:
            raise InvalidManifest(f"manifest: {exc}") from exc
        with self._lock:
            self._layouts[sweep_id] = layout
            while len(self._layouts) > KEPT:
                self._layouts.popitem(last=False)
        return layout
