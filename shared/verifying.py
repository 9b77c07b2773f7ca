"""What `seedbed verify` asks of the process that renders, and what that process answers.

The request is one JSON document on standard input, the answers are a JSON line an image on
standard output, in the order in which they are made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from shared.fields import Value
from shared.job import Job
from shared.pin import Pin

MAX_LEVELS = 1
"""Of 255: what rounding may come to between company and none, or two workers."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An image to render again.

    Attributes:
        index: The user's.
        key: Of the stored image.
        digest: Its identity.
        job: What it was made of.
        pin: What it was made with.
    """

    index: int
    key: str
    digest: str
    job: Job
    pin: Pin


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A stored image beside the same job, rendered again alone.

    Attributes:
        index: The user's.
        key: Of the stored image.
        levels: Largest difference of one colour of a pixel, of 255.
        square_error: Mean of the squared differences.
        differing: Share of the pixels that differ at all.
        values: How many numbers were compared.
        fault: Why there is nothing to compare; the figures are then 0.
    """

    index: int
    key: str
    levels: int = 0
    square_error: float = 0.0
    differing: float = 0.0
    values: int = 0
    fault: str | None = None


def write_request(images: Sequence[Wanted]) -> str:
    """The JSON document."""
    return json.dumps(
        [
            {
                "index": image.index,
                "key": image.key,
                "digest": image.digest,
                "job": asdict(image.job),
                "pin": image.pin.to_text(),
            }
            for image in images
        ]
    )


def read_request(text: str) -> list[Wanted]:
    """Read what `write_request` wrote."""
    return [
        Wanted(
            index=item["index"],
            key=item["key"],
            digest=item["digest"],
            job=_job(item["job"]),
            pin=Pin.from_text(item["pin"]),
        )
        for item in json.loads(text)
    ]


def write_answer(compared: Compared) -> str:
    """One line."""
    return json.dumps(asdict(compared))


def read_answer(line: str) -> Compared:
    """Read what `write_answer` wrote."""
    return Compared(**json.loads(line))


def _job(values: dict[str, Value]) -> Job:
    return Job(**values)  # type: ignore[arg-type]  # our own, written a moment ago
