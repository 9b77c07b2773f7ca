"""Counts what a sweep came to, asking neither queue nor storage code: raw Redis and plain boto3.

What a sweep should come to follows from its manifest; what it came to is what lies in the bucket
and in the keys that docs/queue.md lists.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
import numpy as np
import redis
from botocore.config import Config
from PIL import Image

from shared.addressing import address
from shared.layout import Layout
from shared.manifest import parse_manifest
from shared.pin import Pin
from shared.settings import Settings

LEVELS = 1
"""Of 255: how far a pixel may be from that of a run without faults."""
CHANGED_SHARE = 0.01
"""Of an image's pixels: how many may be that far. In a reproducible sweep none is, by any level."""

Reference = dict[str, np.ndarray]
"""Digest to pixels (height, width, channels), of a run without faults."""


@dataclass(kw_only=True)
class Audit:
    """What is wrong with a sweep, by kind; empty lists mean that nothing is.

    Attributes:
        images: How many the bucket holds that the sweep wants.
        missing: Keys that are not in the bucket though their job is not dead.
        strangers: Keys in the bucket that nobody asked for.
        corrupt: Keys whose object is not the image it should be, and why.
        unsettled: Positions that are neither done nor dead by the bitmap.
        twice: Positions found in two places or none, and in which.
        blamed: Dead jobs that should live, or with another reason than they should have.
        spared: Jobs that should be dead and are not.
        levels: The largest difference from the run without faults, of 255.
        exact: Images of reproducible sweeps that were held to be equal to the bit.
    """

    images: int = 0
    missing: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)
    unsettled: list[int] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    blamed: list[str] = field(default_factory=list)
    spared: list[str] = field(default_factory=list)
    levels: int = 0
    exact: int = 0

    @property
    def faults(self) -> dict[str, list[Any]]:
        """Only the kinds of which there are any."""
        kinds = ["missing", "strangers", "corrupt", "unsettled", "twice", "blamed", "spared"]
        return {kind: getattr(self, kind) for kind in kinds if getattr(self, kind)}


class Auditor:
    """Reads one pool's bucket and Redis directly, past every proxy."""

    def __init__(self, settings: Settings) -> None:
        self._bucket = settings.bucket
        self._s3 = boto3.client(
            "s3",
            endpoint_url=settings.s3_endpoint_url,
            aws_access_key_id=settings.access_key,
            aws_secret_access_key=settings.secret_key,
            region_name="us-east-1",
            config=Config(max_pool_connections=4),
        )
        assert settings.redis_url is not None
        self._redis = redis.Redis.from_url(settings.redis_url, socket_timeout=20)
        self._base = f"seedbed:{{{settings.pool}}}"
        self.reference: Reference = {}

    def close(self) -> None:
        """Close its sockets."""
        self._s3.close()
        self._redis.close()

    def keys(self, prefix: str) -> list[str]:
        """Every key in the bucket that begins with it."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def read(self, key: str) -> bytes:
        """An object."""
        body: bytes = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return body

    def delete(self, prefix: str) -> None:
        """Empty a part of the bucket."""
        for key in self.keys(prefix):
            self._s3.delete_object(Bucket=self._bucket, Key=key)

    def done(self, sweep_id: str) -> int:
        """How many images are committed, by the bitmap; sweeps here have one segment."""
        return int(self._redis.bitcount(f"{self._base}:bits:{sweep_id}:0"))

    def leased(self, sweep_id: str) -> dict[int, str]:
        """Position to the token that holds it."""
        found = self._redis.hgetall(f"{self._base}:leased:{sweep_id}")
        return {int(position): token.decode() for position, token in found.items()}

    def places(self, sweep_id: str) -> dict[int, list[str]]:
        """Where every position is at this moment; each should be in one place."""
        blocks = {
            int(text.split()[0]): (int(offset), int(text.split()[4]))
            for text, offset in self._redis.zrange(
                f"{self._base}:blocks:{sweep_id}", 0, -1, withscores=True
            )
        }
        moment = self._redis.pipeline(transaction=True)
        moment.get(f"{self._base}:bits:{sweep_id}:0")
        moment.hgetall(f"{self._base}:cursors:{sweep_id}")
        moment.hkeys(f"{self._base}:leased:{sweep_id}")
        moment.smembers(f"{self._base}:dead:{sweep_id}")
        for number in blocks:
            moment.smembers(f"{self._base}:retry:{sweep_id}:{number}")
            moment.smembers(f"{self._base}:solo:{sweep_id}:{number}")
        bits, cursors, leased, dead, *sets = moment.execute()
        found: dict[int, list[str]] = {
            position: []
            for offset, size in blocks.values()
            for position in range(offset, offset + size)
        }
        done = {position for position in found if is_set(bits or b"", position)}
        for position in done:
            found[position].append("done")
        for offset, size, number in ((*block, number) for number, block in blocks.items()):
            at = int(cursors.get(f"{number}:at".encode(), 0))
            for position in set(range(offset + at, offset + size)) - done:
                found[position].append("beyond")
        kinds = ["leased", "dead", *(kind for _ in blocks for kind in ("retry", "solo"))]
        for kind, members in zip(kinds, [leased, dead, *sets], strict=True):
            for position in members:
                found[int(position)].append(kind)
        return found

    def misplaced(self, sweep_id: str) -> list[str]:
        """Positions that are in two places, or in none."""
        return [
            f"{sweep_id} {position}: {' and '.join(kinds) or 'nowhere'}"
            for position, kinds in self.places(sweep_id).items()
            if len(kinds) != 1
        ]

    def audit(self, sweeps: Mapping[str, Mapping[int, str]], *, learn: bool = False) -> Audit:
        """Compare the bucket with what all of these sweeps ask for.

        Args:
            sweeps: Id to the user's indices that should be dead, each with a pattern of its
                reason.
            learn: Nothing went wrong in this run: its pixels are the reference.
        """
        audit = Audit()
        expected: dict[str, str] = {}
        exact: set[str] = set()
        dead_keys: set[str] = set()
        # a sweep of which nothing could be made has none
        pins = {self.read(key) for name in sweeps for key in self.keys(f"sweeps/{name}/pins/")}
        if len(pins) != 1:
            audit.missing.append(f"a pin: there are {len(pins)}")
            return audit
        pin = Pin.from_text(pins.pop().decode())
        for sweep_id, doomed in sweeps.items():
            layout = Layout(parse_manifest(self.read(f"sweeps/{sweep_id}/manifest.json").decode()))
            audit.twice += self.misplaced(sweep_id)
            dead = self._dead(sweep_id)
            places = self.places(sweep_id)
            for index in range(layout.total):
                position = layout.position_of(index)
                job = layout.job(index)
                address_ = address(job, pin, layout.manifest.output)
                if position in dead:
                    dead_keys.add(address_.key)
                    pattern = doomed.get(index)
                    if pattern is None or not re.search(pattern, dead[position]):
                        audit.blamed.append(f"{sweep_id} {index}: {dead[position]}")
                    continue
                expected[address_.key] = address_.digest
                if job.reproducible:
                    exact.add(address_.key)
                if index in doomed:
                    audit.spared.append(f"{sweep_id} {index}: {doomed[index]}")
                if places.get(position) != ["done"]:
                    audit.unsettled.append(position)
        stored = set(self.keys("images/"))
        audit.missing += sorted(expected.keys() - stored)
        audit.strangers = sorted(stored - expected.keys() - dead_keys)
        known = re.compile("|".join(re.escape(f"sweeps/{sweep_id}/") for sweep_id in sweeps))
        audit.strangers += [key for key in self.keys("sweeps/") if not known.match(key)]
        for key in sorted(expected.keys() & stored):
            audit.images += 1
            audit.exact += key in exact
            self._check_image(audit, key, expected[key], learn=learn, exact=key in exact)
        return audit

    def _dead(self, sweep_id: str) -> dict[int, str]:
        """Position to reason of every job that was given up."""
        failures = self._redis.hgetall(f"{self._base}:failures:{sweep_id}")
        return {
            int(position): json.loads(failures.get(position, b"{}")).get("reason", "none given")
            for position in self._redis.smembers(f"{self._base}:dead:{sweep_id}")
        }

    def _check_image(
        self, audit: Audit, key: str, digest: str, *, learn: bool, exact: bool
    ) -> None:
        try:
            with Image.open(io.BytesIO(self.read(key))) as image:
                image.load()
                record = json.loads(image.text["seedbed"])  # type: ignore[attr-defined]
                # pixels: (height, width, channels)
                pixels = np.asarray(image.convert("RGB"), dtype=np.int16)
        except (OSError, KeyError, ValueError, SyntaxError) as exc:
            audit.corrupt.append(f"{key}: {exc!r}")
            return
        if record["digest"] != digest or digest not in key:
            audit.corrupt.append(f"{key}: says that it is {record['digest']}")
        if learn:
            self.reference.setdefault(digest, pixels)
        if digest not in self.reference:
            audit.corrupt.append(f"{key}: was not in the run without faults")
            return
        away = np.abs(pixels - self.reference[digest])
        audit.levels = max(audit.levels, int(away.max()))
        if exact and away.any():
            audit.corrupt.append(f"{key}: not equal to the bit, {int(away.max())} levels away")
        elif away.max() > LEVELS or (away.max(axis=2) > 0).mean() > CHANGED_SHARE:
            audit.corrupt.append(f"{key}: {int(away.max())} of 255 levels away")


def is_set(bits: bytes, position: int) -> bool:
    """Whether a bit of a Redis string is 1."""
    byte, bit = divmod(position, 8)
    return byte < len(bits) and bool(bits[byte] & (0x80 >> bit))
