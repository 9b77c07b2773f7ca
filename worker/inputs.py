"""A job's input files: read from the pool's own bucket, checked, decoded, and kept while they fit.

Nothing is read that is not under ``inputs/`` of the bucket's prefix, nor believed before its
content's SHA-256 is the one that its key says.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from threading import Lock

import torch
from PIL import Image, ImageOps

from shared.errors import InvalidInput, ObjectMissing, UnsupportedJob
from shared.fields import INPUT_KEY
from shared.input_checks import (
    LATENTS,
    MAX_INPUT_BYTES,
    damaged,
    noise_shape,
    open_image,
    too_long,
)
from shared.input_files import INPUT_FIELDS, input_key
from shared.job import Job
from shared.storage import Storage

CAPACITY_BYTES = 256 << 20
"""Bounds what is kept decoded: some three hundred images of 512 x 512."""
FETCHES = 8
"""Inputs fetched at a time."""

Input = Image.Image | torch.Tensor
Inputs = Mapping[str, Input | UnsupportedJob]
"""By key: what to render with, or why that can't be."""

logger = logging.getLogger(__name__)


class InputStore:
    """The inputs of one bucket, those used last kept in memory."""

    def __init__(self, storage: Storage, *, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._storage = storage
        self._capacity_bytes = capacity_bytes
        self._held: OrderedDict[str, Input] = OrderedDict()
        self._held_bytes = 0
        self._lock = Lock()
        self.fetched = 0

    @property
    def held_bytes(self) -> int:
        """What is kept, decoded."""
        return self._held_bytes

    def load(
        self,
        jobs: Iterable[Job],
        *,
        decoding: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> dict[str, Input | UnsupportedJob]:
        """Every input of the jobs, by key; what is wrong with one is told in its place.

        Args:
            decoding: Makes what surrounds the decoding of each, in several threads.

        Raises:
            StorageError: Storage does not answer.
        """
        wanted = {
            key: field
            for job in jobs
            for field in INPUT_FIELDS
            if (key := getattr(job, field)) is not None
        }
        if len(wanted) <= 1:
            return {key: self._get(field, key, decoding) for key, field in wanted.items()}
        with ThreadPoolExecutor(min(FETCHES, len(wanted)), thread_name_prefix="inputs") as threads:
            found = threads.map(lambda item: self._get(item[1], item[0], decoding), wanted.items())
            return dict(zip(wanted, found, strict=True))

    def _get(
        self, field: str, key: str, decoding: Callable[[], AbstractContextManager[None]]
    ) -> Input | UnsupportedJob:
        with self._lock:
            held = self._held.get(key)
            # what was an image to one job can't be noise to another, nor the other way round
            if held is not None and isinstance(held, torch.Tensor) is (field == LATENTS):
                self._held.move_to_end(key)
                return held
        try:
            body = self._fetch(key)
            with decoding():
                decoded = self._decode(field, body)
        except InvalidInput as exc:
            return UnsupportedJob(f"{field} {key} {exc}")
        self._keep(key, decoded)
        return decoded

    def _fetch(self, key: str) -> bytes:
        if not INPUT_KEY.fullmatch(key):
            raise InvalidInput("is not in the bucket's inputs/: workers read from nowhere else")
        gone = "is gone from the bucket: submit the sweep again, then 'seedbed retry' it"
        size = self._storage.size(key)
        if size is None:
            raise InvalidInput(gone)
        if size > MAX_INPUT_BYTES:
            raise too_long(size)
        try:
            body = self._storage.get(key)
        except ObjectMissing:
            raise InvalidInput(gone) from None
        self.fetched += 1
        if input_key(body) != key:
            raise InvalidInput("holds something else than its name says: upload it again")
        return body

    def _decode(self, field: str, body: bytes) -> Input:
        return read_noise(body) if field == LATENTS else read_image(body)

    def _keep(self, key: str, decoded: Input) -> None:
        with self._lock:
            if key in self._held:
                return
            self._held[key] = decoded
            self._held_bytes += _size_bytes(decoded)
            while self._held_bytes > self._capacity_bytes:
                _, oldest = self._held.popitem(last=False)
                self._held_bytes -= _size_bytes(oldest)


def read_image(body: bytes) -> Image.Image:
    """An image as ``diffusers.utils.load_image`` gives it: upright, RGB, without transparency.

    Raises:
        InvalidInput: It is none, broken, or above the limits.
    """
    image = open_image(body)
    try:
        return ImageOps.exif_transpose(image).convert("RGB")
    except Exception as exc:
        raise InvalidInput(damaged(exc)) from exc


def read_noise(body: bytes) -> torch.Tensor:
    """The noise in a safetensors file, on the CPU, in its own number format.

    Raises:
        InvalidInput: It is no such file, or has NaN or infinite numbers.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    name, _ = noise_shape(body)
    try:
        noise = load(body)[name]
    except SafetensorError as exc:
        raise InvalidInput(f"is a damaged safetensors file ({exc}): save it again") from exc
    if not bool(torch.isfinite(noise).all()):
        raise InvalidInput("has NaN or infinite numbers: it is no noise to start from")
    return noise


def _size_bytes(decoded: Input) -> int:
    if isinstance(decoded, torch.Tensor):
        return decoded.nbytes
    return decoded.width * decoded.height * len(decoded.getbands())
