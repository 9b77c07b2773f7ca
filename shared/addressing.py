"""Where a job's image lies: its digest and its object's key, once the checkpoint is known."""

from __future__ import annotations

from dataclasses import dataclass

from shared.digest import acting_values, values_digest
from shared.job import Job
from shared.manifest import Output
from shared.object_keys import object_key
from shared.pin import Pin


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """The identity of one image and the key it is stored under.

    Attributes:
        digest: 64 hex digits; equal digests mean equal pixels.
        key: Relative to the settings' prefix; holds the digest.
    """

    digest: str
    key: str


def address(job: Job, pin: Pin, output: Output) -> Address:
    """The image's address; equal jobs of any two sweeps with one output share it.

    The key's template sees the job as it acts: the checkpoint's own size and scheduler filled
    in, fields that can't act at their neutral value.
    """
    values = acting_values(job, pin)
    digest = values_digest(values, pin, pixel_format=output.format)
    return Address(digest=digest, key=object_key(output.key, values, digest=digest))
