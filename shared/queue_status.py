"""From what Redis holds of a sweep to what people read: status, failures, done bits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from shared.errors import QueueError
from shared.keys import SEGMENT_BITS
from shared.queue_records import Failure, State, SweepStatus

STATES = ("running", "paused", "finalising", "done", "cancelled")
PIN_FIELD = "pin:"


def malformed_sweep(sweep_id: str) -> QueueError:
    """The error for something under a sweep's key that no script of ours wrote."""
    return QueueError(
        f"what Redis holds of sweep {sweep_id!r} is malformed: "
        f"remove it with 'seedbed delete {sweep_id}' and submit it again"
    )


def read_status(
    sweep_id: str, row: Mapping[bytes, bytes], *, leased: int, dead: int, blocks: int
) -> SweepStatus:
    """A status from the sweep's hash and the sizes of its sets.

    Raises:
        QueueError: The hash is not one of ours.
    """
    try:
        fields = {name.decode(): value.decode() for name, value in row.items()}
        total, done = int(fields["total"]), int(fields["done"])
        state = fields["state"]
        if state not in STATES:
            raise ValueError(state)
        waiting = total - done - dead - leased
        return SweepStatus(
            id=sweep_id,
            state=cast(State, state),
            epoch=int(fields["epoch"]),
            owner=fields["owner"],
            priority=int(fields["priority"]),
            weight=float(fields["weight"]),
            total=total,
            done=done,
            reused=int(fields["reused"]),
            dead=dead,
            leased=leased,
            pending=0 if state == "cancelled" else waiting,
            cancelled=waiting if state == "cancelled" else 0,
            bytes=int(fields["bytes"]),
            submitted_at=int(fields["submitted_at"]) / 1e6,
            finished_at=int(fields["finished_at"]) / 1e6 if fields["finished_at"] else None,
            pins={
                name.removeprefix(PIN_FIELD): value
                for name, value in fields.items()
                if name.startswith(PIN_FIELD)
            },
            blocks=blocks,
            flagged=int(fields.get("flagged", 0)),
            refused=fields.get("refused", ""),
        )
    except (KeyError, ValueError) as error:
        raise malformed_sweep(sweep_id) from error


def read_failure(position: bytes, text: bytes) -> Failure:
    """A failure from its entry in Redis; a reason cut inside a character stays readable.

    Raises:
        QueueError: No script of ours wrote it.
    """
    try:
        entry: dict[str, Any] = json.loads(text.decode("utf-8", "replace"))
        return Failure(
            position=int(position),
            attempts=int(entry["attempts"]),
            reason=str(entry["reason"]),
            worker=str(entry["worker"]),
            at=int(entry["at"]) / 1e6,
            dead=bool(entry["dead"]),
        )
    except (KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise QueueError(f"failure of position {position!r:.40} is malformed") from error


def segment_ranges(start: int, count: int) -> list[tuple[int, int, int]]:
    """The (segment, first byte, last byte) that hold positions start..start+count-1.

    Args:
        start: A multiple of 8.
    """
    ranges = []
    end = start + count
    while start < end:
        segment, bit = divmod(start, SEGMENT_BITS)
        stop = min(end, (segment + 1) * SEGMENT_BITS)
        ranges.append((segment, bit // 8, (bit + stop - start - 1) // 8))
        start = stop
    return ranges


def join_mask(pieces: list[tuple[int, bytes]], count: int) -> bytes:
    """Put (wanted bytes, stored bytes) together; what is not stored is zero, so is the tail."""
    mask = bytearray()
    for wanted, stored in pieces:
        mask += stored.ljust(wanted, b"\0")
    if count % 8:
        mask[-1] &= 0xFF << (8 - count % 8) & 0xFF
    return bytes(mask)
