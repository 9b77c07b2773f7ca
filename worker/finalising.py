"""Ends sweeps that are through: compares done bits with storage, writes the index, then the end.

An item of this work is leased like jobs are, and needs no GPU. Whoever dies at it is followed by
another, which begins anew under a version of its own; the pointer is written last, so it always
names a whole index.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from threading import Event, Lock, Thread

from shared.errors import (
    InvalidManifest,
    LeaseLost,
    ObjectMissing,
    QueueError,
    StorageError,
    UnknownSweep,
)
from shared.queue import FinaliseItem, JobQueue
from shared.records import manifest_key
from shared.storage import Storage
from shared.sweep_index import (
    COLUMNS,
    CONTENT_TYPES,
    FORMATS,
    IndexFile,
    IndexPointer,
    index_key,
    pointer_key,
    version_number,
    versions_prefix,
)
from worker.index_files import WrittenIndex, write_index
from worker.index_records import JobRecords
from worker.indexing import LOOKED_UP, Accountant, Check, SweepAccount, index_rows
from worker.scratch import scratch_folder
from worker.sweeps import ClaimedSweeps

LEASE_SECONDS = 60.0
"""A finaliser that dies is followed by another after this."""
RENEWALS = 4
"""How often a lease is renewed in its life."""
INLINE_JOBS = 1024
"""Larger sweeps are finalised in a thread of their own: they take longer than a batch."""
CLOSE_SECONDS = 10.0
"""How long the end of the process waits for a finaliser to see that it should stop."""

logger = logging.getLogger(__name__)


class Stopped(Exception):
    """The process ends: the item goes back to the queue."""


class Finaliser:
    """Takes finalise items and does them, one at a time; large ones in the background.

    Args:
        lease_seconds: Of an item; renewed while the work goes on.
        inline_jobs: Sweeps up to this size are done before `run_pending` returns.
        looked_up: Sweeps up to this size are compared by HEAD instead of LIST.
    """

    def __init__(
        self,
        queue: JobQueue,
        storage: Storage,
        sweeps: ClaimedSweeps,
        *,
        lease_seconds: float = LEASE_SECONDS,
        inline_jobs: int = INLINE_JOBS,
        looked_up: int = LOOKED_UP,
    ) -> None:
        self._queue = queue
        self._storage = storage
        self._sweeps = sweeps
        self._lease_seconds = lease_seconds
        self._inline_jobs = inline_jobs
        self._looked_up = looked_up
        self._one_at_a_time = Lock()
        self._stopping = Event()
        self._background: Thread | None = None

    def run_pending(self) -> int:
        """Finalise what waits for it; returns how many sweeps ended meanwhile."""
        if not self._one_at_a_time.acquire(blocking=False):
            return 0
        ended = 0
        try:
            while not self._stopping.is_set():
                token = secrets.token_hex(12)
                item = self._queue.finalise(token=token, lease_seconds=self._lease_seconds)
                if item is None:
                    break
                if self._is_large(item):
                    if not self._start(token, item):
                        break
                elif self._finalise(token, item):
                    ended += 1
                else:
                    break
        except QueueError as exc:
            logger.warning("finalising put off", extra={"error": str(exc)})
        finally:
            self._one_at_a_time.release()
        return ended

    def close(self) -> None:
        """Stop what is under way in the background; another worker does it again."""
        self._stopping.set()
        self.join(CLOSE_SECONDS)

    def join(self, seconds: float) -> None:
        """Wait for what is under way in the background."""
        if self._background is not None:
            self._background.join(seconds)

    def _is_large(self, item: FinaliseItem) -> bool:
        try:
            return self._queue.status(item.sweep_id).total > self._inline_jobs
        except UnknownSweep:
            return False

    def _start(self, token: str, item: FinaliseItem) -> bool:
        """Go on in the background; give the item to others where a large one is there already."""
        if self._background is not None and self._background.is_alive():
            self._queue.release(token)
            return False
        self._background = Thread(
            target=self._finalise, args=(token, item), name="finaliser", daemon=True
        )
        self._background.start()
        return True

    def _finalise(self, token: str, item: FinaliseItem) -> bool:
        """Do one item; returns whether it is off the list."""
        try:
            with self._renewed(token) as lost:
                self._do(token, item, lost)
        except UnknownSweep:
            return True
        except LeaseLost:
            logger.info("another finalises it", extra={"sweep": item.sweep_id})
            return True
        except InvalidManifest as exc:
            logger.error(
                "sweep ended without an index: its manifest or pin can't be read",
                extra={"sweep": item.sweep_id, "error": str(exc)},
            )
            return self._finish(token, item)
        except Stopped:
            logger.info("finalising left to others", extra={"sweep": item.sweep_id})
        except (QueueError, StorageError, OSError) as exc:
            logger.warning("finalising put off", extra={"sweep": item.sweep_id, "error": str(exc)})
        except Exception:
            logger.exception("finalising failed", extra={"sweep": item.sweep_id})
        else:
            return True
        self._give_back(token)
        return False

    def _finish(self, token: str, item: FinaliseItem) -> bool:
        try:
            self._queue.finish(token, item.sweep_id, item.epoch)
        except QueueError as exc:
            logger.warning("finalising put off", extra={"error": str(exc)})
            return False
        return True

    def _give_back(self, token: str) -> None:
        try:
            self._queue.release(token)
        except QueueError as exc:
            logger.info("the lease runs out by itself", extra={"error": str(exc)})

    def _do(self, token: str, item: FinaliseItem, lost: Event) -> None:
        def check() -> None:
            if lost.is_set():
                raise LeaseLost(token)
            if self._stopping.is_set():
                raise Stopped

        sweep_id = item.sweep_id
        layout = self._sweeps.layout(sweep_id)
        with scratch_folder() as folder, JobRecords(folder, layout.total) as records:
            accountant = Accountant(self._queue, self._storage, check, self._looked_up)
            account = accountant.account(sweep_id, layout, records, folder)
            cancelled = self._queue.status(sweep_id).state == "cancelled"
            if account.missing and not cancelled:
                logger.warning(
                    "sweep reopened: images are gone from storage",
                    extra={"sweep": sweep_id, "missing": len(account.missing)},
                )
                self._queue.repair(sweep_id, missing=account.missing)
                return
            if account.missing:
                accountant.add_receipts(sweep_id, account)
            self._publish(token, item, account, folder, cancelled, check)
        self._queue.finish(token, sweep_id, item.epoch)
        logger.info("sweep ended", extra={"sweep": sweep_id})

    def _publish(
        self,
        token: str,
        item: FinaliseItem,
        account: SweepAccount,
        folder: Path,
        cancelled: bool,
        check: Check,
    ) -> None:
        """Both files, then the pointer, unless another has the item by now."""
        sweep_id, manifest = item.sweep_id, account.layout.manifest
        written = write_index(index_rows(account), folder, varying=manifest.fields_by_axis)
        check()
        if not self._storage.exists(manifest_key(sweep_id)):
            body = manifest.text.encode()
            self._storage.put(manifest_key(sweep_id), body, content_type="application/json")
        version = f"v{self._last_version(sweep_id) + 1}-{token}"
        files = {form: self._upload(sweep_id, version, written, form) for form in FORMATS}
        pointer = IndexPointer(
            sweep_id=sweep_id,
            version=version,
            epoch=item.epoch,
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            cancelled=cancelled,
            total=account.layout.total,
            rows=written.done + written.dead,
            done=written.done,
            dead=written.dead,
            missing=len(account.missing),
            fixed=dict(manifest.fixed),
            columns=tuple(COLUMNS),
            **files,
        )
        check()
        # who was stopped for longer than the lease must not cover a later index with this one
        self._queue.renew(token, lease_seconds=self._lease_seconds, phase="uploading")
        if self._queue.status(sweep_id).epoch != item.epoch:
            raise LeaseLost(token)
        self._storage.put(
            pointer_key(sweep_id), pointer.to_text().encode(), content_type="application/json"
        )

    def _upload(self, sweep_id: str, version: str, written: WrittenIndex, form: str) -> IndexFile:
        key, path = index_key(sweep_id, version, form), written.paths[form]
        self._storage.put_file(key, path, content_type=CONTENT_TYPES[form])
        return IndexFile(key=key, bytes=path.stat().st_size, sha256=written.sha256(form))

    def _last_version(self, sweep_id: str) -> int:
        """The highest number there is: of any attempt, and of the pointer."""
        try:
            pointed = IndexPointer.from_text(
                self._storage.get(pointer_key(sweep_id)).decode(errors="replace")
            ).number
        except ObjectMissing:
            pointed = 0
        except StorageError as exc:
            logger.warning("index pointer is replaced", extra={"error": str(exc)})
            pointed = 0
        prefix = versions_prefix(sweep_id)
        listed = (
            version_number(found.key.removeprefix(prefix).partition("/")[0])
            for found in self._storage.list(prefix)
        )
        return max(chain([pointed], listed))

    @contextmanager
    def _renewed(self, token: str) -> Iterator[Event]:
        """Renew the item's lease in a thread of its own; the event says that it is lost."""
        over, lost = Event(), Event()

        def renew() -> None:
            while not over.wait(self._lease_seconds / RENEWALS):
                try:
                    self._queue.renew(token, lease_seconds=self._lease_seconds, phase="uploading")
                except LeaseLost:
                    lost.set()
                    return
                except QueueError as exc:
                    logger.warning("lease not renewed", extra={"error": str(exc)})

        thread = Thread(target=renew, name="finaliser-lease", daemon=True)
        thread.start()
        try:
            yield lost
        finally:
            over.set()
            thread.join()
