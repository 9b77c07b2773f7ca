"""What one device can take of one model: a worker measures it, its peers and people read it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from shared.canonical import canonical_json, sha256_hex

VERSION = 1
"""Of the record: raised when its members or their meaning change; others are measured anew."""

KEY_DIGITS = 32
"""Hex digits that name a record."""

MOST_ROWS = 1 << 20
"""Bounds what a record may claim: beyond it, it is not one of ours."""

LATEST = 1e11
"""Seconds since 1970 beyond which a calendar ends."""

Bound = Literal["memory", "rows", "time"]


@dataclass(frozen=True, kw_only=True)
class CapacityKey:
    """What a measurement holds for: whatever differs in any of it is measured anew.

    Attributes:
        device: Name of the GPU or CPU, and how much of it there is.
        weights: The model's fingerprint.
        dtype: ``"float16"``, ``"bfloat16"`` or ``"float32"``.
        height: Pixels.
        width: Pixels.
        attention: The attention processors in force.
        software: Package to version.
    """

    device: str
    weights: str
    dtype: str
    height: int
    width: int
    attention: str
    software: Mapping[str, str]

    @property
    def name(self) -> str:
        """A short hash of all of it: the record's name in Redis."""
        return sha256_hex(canonical_json(asdict(self)))[:KEY_DIGITS]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One batch that was run.

    Attributes:
        rows: In the batch.
        seconds: Of the whole batch, the quickest of its runs.
        peak_bytes: Most memory that was held; None where nobody can tell.
    """

    rows: int
    seconds: float
    peak_bytes: int | None

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


@dataclass(frozen=True, kw_only=True)
class Curve:
    """How time and memory grow with the rows of a batch.

    Attributes:
        points: What was run, by rows.
        knee: The fewest rows whose rows/s are nearly the best.
        cap: The most rows that were seen to fit, with memory to spare.
        reach: The most rows that should fit by what was measured; the cap, unless the time was
            over before it could be confirmed.
        bound: Why there are no more: memory ends, more were not asked for, or the time was over.
    """

    points: tuple[Point, ...]
    knee: int
    cap: int
    reach: int
    bound: Bound


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """One device's curves for one model at one size.

    Attributes:
        key: What they hold for.
        model: What the worker that measured calls the model.
        steps: Calls of the denoising model in each timed batch.
        memory_bytes: What the device could give in all; None where nobody can tell.
        denoise: By rows of the denoising model: one an image, two with guidance.
        decode: By images of the VAE; None for a pipeline without one.
        worker: Who measured.
        at: When, seconds since 1970, UTC.
    """

    key: CapacityKey
    model: str
    steps: int
    memory_bytes: int | None
    denoise: Curve
    decode: Curve | None
    worker: str
    at: float

    def batch_size(self, rows_per_image: int) -> int:
        """Images to render together: at the denoiser's knee, and within what the VAE should take.

        Args:
            rows_per_image: Of the denoising model: 2 with guidance, else 1.
        """
        images = max(1, self.denoise.knee // rows_per_image)
        return images if self.decode is None else min(images, self.decode.reach)

    def to_text(self) -> str:
        """Canonical JSON."""
        return canonical_json({"version": VERSION, **asdict(self)})


def read_capacity(text: bytes | str) -> Capacity | None:
    """A record, or None for what is not one of this version."""
    try:
        data = json.loads(text)
        if data.pop("version") != VERSION:
            return None
        decode = data.pop("decode")
        return Capacity(
            key=_key(data.pop("key")),
            denoise=_curve(data.pop("denoise")),
            decode=None if decode is None else _curve(decode),
            steps=_integer(data.pop("steps"), 1),
            memory_bytes=_bytes(data.pop("memory_bytes")),
            at=min(_number(data.pop("at")), LATEST),
            **_texts(data, "model", "worker"),
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None


def _key(data: dict[str, Any]) -> CapacityKey:
    software = data.pop("software")
    return CapacityKey(
        height=_integer(data.pop("height"), 1),
        width=_integer(data.pop("width"), 1),
        software=_texts(software, *software),
        **_texts(data, "device", "weights", "dtype", "attention"),
    )


def _curve(data: dict[str, Any]) -> Curve:
    points = tuple(
        Point(
            rows=_integer(item["rows"], 1),
            seconds=_number(item["seconds"]),
            peak_bytes=_bytes(item["peak_bytes"]),
        )
        for item in data["points"]
    )
    rows = [point.rows for point in points]
    knee, cap = _integer(data["knee"], 1), _integer(data["cap"], 1)
    reach = _integer(data["reach"], cap)
    if rows != sorted(set(rows)) or knee not in rows or cap not in rows or knee > cap:
        raise ValueError("knee and cap are of the rows that were run, in their order")
    if data["bound"] not in get_args(Bound):
        raise ValueError(data["bound"])
    return Curve(points=points, knee=knee, cap=cap, reach=reach, bound=data["bound"])


def _texts(data: dict[str, Any], *names: str) -> dict[str, Any]:
    """Members that are text, and no others."""
    if set(data) != set(names) or not all(type(value) is str for value in data.values()):
        raise ValueError(f"not just the texts {names}")
    "".join(data.values()).encode()  # no lone surrogates
    return data


def _integer(value: object, least: int) -> int:
    if type(value) is not int or not least <= value <= MOST_ROWS:
        raise ValueError(value)
    return value


def _number(value: object) -> float:
    if type(value) not in (int, float) or not 0 < value < math.inf:  # type: ignore[operator]
        raise ValueError(value)
    return float(value)  # type: ignore[arg-type]


def _bytes(value: object) -> int | None:
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError(value)
    return value
