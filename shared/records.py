"""Seedbed's own records in storage: manifests, pins and receipts, under ``sweeps/<id>/``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

from shared.canonical import canonical_json

BATCH_STAGES = ("claim", "embed", "denoise", "decode")
"""Stages of a receipt's seconds that the whole batch took; the others are the image's own."""


def manifest_key(sweep_id: str) -> str:
    """Where the manifest lies, beside the images it made."""
    return f"sweeps/{sweep_id}/manifest.json"


def pin_key(sweep_id: str, model: str) -> str:
    """Where the pin of one of the sweep's models lies."""
    return f"sweeps/{sweep_id}/pins/{model}.json"


def receipts_key(sweep_id: str, token: str) -> str:
    """The receipts of one lease, a JSON line an image."""
    return f"{receipts_prefix(sweep_id)}{token}.jsonl"


def receipts_prefix(sweep_id: str) -> str:
    """What the keys of all receipts of a sweep begin with."""
    return f"sweeps/{sweep_id}/receipts/"


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The record of one stored image: what varies from render to render.

    Attributes:
        index: The user's index in the sweep.
        digest: The image's identity.
        key: The object's key, relative to the prefix.
        bytes: Size of the object.
        at: When it was stored, UTC, ISO 8601.
        worker: Who rendered it.
        reused: It was in storage already; the other fields of the rendering are then empty.
        device: GPU or CPU by name.
        rows: Images in the batch, this one included.
        mates: Digests of the others in the batch.
        forwards: Calls of the model that the batch took.
        seconds: Stage to seconds of the whole batch: claim, embed, denoise, decode; and of
            this image: encode, upload.
        software: Package to version.
        attention: What attention slicing was in force.
        flagged: The checkpoint's safety checker blacked it out.
        notes: What was mended, such as a prompt cut to the encoder's length.
    """

    index: int
    digest: str
    key: str
    bytes: int
    at: str
    worker: str
    reused: bool = False
    device: str = ""
    rows: int = 0
    mates: tuple[str, ...] = ()
    forwards: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    software: dict[str, str] = field(default_factory=dict)
    attention: str = ""
    flagged: bool = False
    notes: tuple[str, ...] = ()


def receipt_lines(receipts: Iterable[Receipt]) -> bytes:
    """JSON Lines, one receipt a line."""
    return "".join(canonical_json(asdict(receipt)) + "\n" for receipt in receipts).encode()


def read_receipts(body: bytes) -> Iterator[dict[str, object]]:
    """The receipts of one file; a line that can't be read is left out."""
    for line in body.splitlines():
        try:
            receipt = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(receipt, dict):
            yield receipt


def image_seconds(receipt: Mapping[str, object]) -> float:
    """What one image took: its share of the batch, its own encoding and upload."""
    stages, rows = receipt.get("seconds"), receipt.get("rows")
    if not isinstance(stages, dict):
        return 0.0
    mates = rows if isinstance(rows, int) and rows > 0 else 1
    took = {name: float(value) for name, value in stages.items() if isinstance(value, int | float)}
    shared = sum(value for name, value in took.items() if name in BATCH_STAGES)
    own = sum(value for name, value in took.items() if name not in BATCH_STAGES)
    return round(shared / mates + own, 4)
