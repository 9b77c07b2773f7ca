"""Images out of storage, into a folder of files with readable names."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from producer.naming import make_namer
from producer.parallel import in_parallel
from producer.png_check import flaw, is_whole_file
from producer.writing import unwritable
from shared.errors import ObjectMissing, StorageError

if TYPE_CHECKING:
    from producer.results import SweepResults

WORKERS = 16
"""Threads; storage keeps 32 sockets open."""
PARTS = ".seedbed-parts"
"""Folder of files that are being written; gone when the fetch is over."""
STALE_SECONDS = 3600.0
"""From this age a half-written file has no writer any more."""
SHOWN_PROBLEMS = 100
"""Missing and damaged images that are listed; all are counted."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An image that could not be fetched.

    Attributes:
        index: The user's.
        title: What tells its job from the others.
        key: Its object.
        reason: What is wrong with it.
    """

    index: int
    title: str
    key: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What a fetch came to.

    Attributes:
        folder: Where the files are.
        written: Images downloaded.
        skipped: Images that were there already, whole.
        missing: Images that are not in storage.
        damaged: Images whose object can't be read, is cut off, changed or another job's; not
            written.
        bytes: Size of what was downloaded.
        problems: The first missing and damaged ones.
    """

    folder: Path
    written: int = 0
    skipped: int = 0
    missing: int = 0
    damaged: int = 0
    bytes: int = 0
    problems: tuple[Problem, ...] = field(default=())

    @property
    def total(self) -> int:
        """Images looked at so far."""
        return self.written + self.skipped + self.missing + self.damaged


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outcome:
    """What became of one image; ``problem`` where it is missing or damaged."""

    state: Literal["written", "skipped", "missing", "damaged"]
    bytes: int = 0
    problem: Problem | None = None


def fetch(
    results: SweepResults,
    indices: Iterable[int],
    folder: Path,
    *,
    name: str | None = None,
    workers: int = WORKERS,
    progress: Callable[[Fetched], None] | None = None,
) -> Fetched:
    """Download images in parallel; whatever is there already and whole is kept.

    A file appears under its name only when it is complete and is the image of its job, so that
    a fetch may be interrupted anywhere and called again. Memory does not grow with the number
    of images.

    Args:
        indices: The user's indices, read as the download goes on.
        folder: Made where it is missing.
        name: Template of the names, see `producer.naming.make_namer`.
        progress: Called after each image, in the caller's thread.

    Raises:
        InvalidSweep: The template of the names is wrong; nothing was written.
        InvalidSettings: The folder can't be written to, or the disk is full.
        StorageError: Storage does not answer.
    """
    namer = make_namer(results, name)
    parts = _prepare(folder)
    found = Fetched(folder=folder)

    def one(index: int) -> _Outcome:
        try:
            return _fetch_one(results, index, folder / namer(index), parts)
        except OSError as exc:
            raise unwritable(folder, exc, again="fetch again to go on") from exc

    try:
        with closing(in_parallel(one, indices, workers)) as outcomes:
            for outcome in outcomes:
                found = _add(found, outcome)
                if progress is not None:
                    progress(found)
    finally:
        with suppress(OSError):  # another fetch into this folder still uses it
            parts.rmdir()
    return found


def _fetch_one(results: SweepResults, index: int, path: Path, parts: Path) -> _Outcome:
    address = results.address_of(index)

    def lost(state: Literal["missing", "damaged"], reason: str) -> _Outcome:
        key = None if address is None else address.key
        title = results.title_of(index)
        problem = Problem(index=index, title=title, key=key, reason=reason)
        return _Outcome(state=state, problem=problem)

    if address is None:
        return lost("missing", "has no worker yet that claimed from its model")
    if is_whole_file(path, address.digest):
        return _Outcome(state="skipped")
    try:
        data = results.storage.get(address.key)
    except ObjectMissing:
        return lost("missing", "is not in storage")
    except StorageError as exc:
        results.storage.check()  # raises where all of storage is down, not this object alone
        return lost("damaged", f"can't be had: {exc}")
    wrong = flaw(data, address.digest)
    if wrong is not None:
        return lost("damaged", wrong)
    _write(data, path, parts / f"{os.getpid()}-{threading.get_ident()}-{index}")
    return _Outcome(state="written", bytes=len(data))


def _write(data: bytes, path: Path, part: Path) -> None:
    """The whole file or none of it, under its name."""
    try:
        part.write_bytes(data)
        try:
            part.replace(path)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def _add(found: Fetched, outcome: _Outcome) -> Fetched:
    problems = found.problems
    if outcome.problem is not None and len(problems) < SHOWN_PROBLEMS:
        problems = (*problems, outcome.problem)
    return replace(
        found,
        bytes=found.bytes + outcome.bytes,
        problems=problems,
        **{outcome.state: getattr(found, outcome.state) + 1},
    )


def _prepare(folder: Path) -> Path:
    """Make the folder, and in it the one for files under way; clear out what a crash left."""
    parts = folder / PARTS
    try:
        parts.mkdir(parents=True, exist_ok=True)
        for left in parts.iterdir():
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                left.unlink(missing_ok=True)
        probe = parts / f"{os.getpid()}-probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as exc:
        raise unwritable(folder, exc, again="fetch again to go on") from exc
    return parts
