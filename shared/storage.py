"""Objects in one S3 bucket, under one prefix: with the other storage_*.py, what knows boto3.

Only ``connect`` and ``check`` raise InvalidSettings. Everything else that goes wrong is a
StorageError: a worker with images in its hands keeps them and tries again, whatever the reason.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError

from shared.errors import InvalidInput, ObjectMissing, ObjectTooLarge, StorageError
from shared.storage_client import MAX_ATTEMPTS, make_client, shown_endpoint
from shared.storage_faults import BOTO_ERRORS, EMPTY_CODES, MISSING_CODES, StorageFaults, code_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from shared.settings import Settings

PARALLEL_REQUESTS = 16
"""Threads of ``exists_many``: a HEAD is mostly waiting, but signing it costs about 1 ms of CPU."""

TRANSFER = TransferConfig(
    multipart_threshold=64 * 2**20, multipart_chunksize=64 * 2**20, max_concurrency=2
)
"""How files go: in parts from 64 MiB on, two at a time, so that 10,000 parts are 625 GiB."""

PIECE_BYTES = 2**20
"""Of a file that is read, held in memory at once."""

MAX_KEY_BYTES = 1024
"""S3's own limit, prefix included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject:
    """One entry of a listing.

    Attributes:
        key: Relative to the settings' prefix.
        size: Bytes.
    """

    key: str
    size: int


class Storage:
    """The pool's bucket. One instance serves any number of threads.

    Attributes:
        has_credentials: Whether the settings or the AWS chain gave any.
    """

    def __init__(
        self,
        client: S3Client,
        *,
        bucket: str,
        prefix: str,
        endpoint: str,
        has_credentials: bool,
    ) -> None:
        self.has_credentials = has_credentials
        self._client = client
        self._bucket = bucket
        self._root = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._faults = StorageFaults(bucket=bucket, endpoint=endpoint)

    @classmethod
    def connect(cls, settings: Settings) -> Storage:
        """Prepare a client; nothing is sent before the first call.

        Raises:
            InvalidSettings: The endpoint, region, profile or certificates cannot be right.
        """
        client, has_credentials = make_client(settings)
        return cls(
            client,
            bucket=settings.bucket,
            prefix=settings.prefix,
            endpoint=shown_endpoint(settings.s3_endpoint_url or client.meta.endpoint_url),
            has_credentials=has_credentials,
        )

    def close(self) -> None:
        """Close the sockets that are kept open."""
        self._client.close()

    def put(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Store ``body`` under ``key``, replacing what is there.

        The server refuses a body that was damaged on its way (Content-MD5), and a reader sees
        the old object or the new one, never a part of either.

        Args:
            metadata: ASCII names and values, for people who look at the bucket: rclone forgets
                them when it ends.
        """
        full = self._full(key)
        checksum = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=full,
                Body=body,
                ContentType=content_type,
                ContentMD5=checksum,
                Metadata=dict(metadata or {}),
            )
        except BOTO_ERRORS as exc:
            raise self._failed("store", key, exc) from exc

    def get(self, key: str, *, most_bytes: int | None = None) -> bytes:
        """The whole object.

        Raises:
            ObjectMissing: There is none.
            ObjectTooLarge: It has more than ``most_bytes``.
        """
        full = self._full(key)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=full)
                # not `with answer["Body"]`: that yields urllib3's stream, with urllib3's errors
                with closing(answer["Body"]) as stream:
                    if (
                        most_bytes is not None
                        and (size := answer.get("ContentLength", 0)) > most_bytes
                    ):
                        raise ObjectTooLarge(key, size, most_bytes)
                    return stream.read()
            except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError) as exc:
                # boto3 retries requests, not bodies that break off half-way.
                if attempt == MAX_ATTEMPTS:
                    raise self._failed("read", key, exc) from exc
            except BOTO_ERRORS as exc:
                raise self._failed("read", key, exc) from exc
        raise AssertionError("unreachable")

    def put_file(self, key: str, path: Path, *, content_type: str) -> None:
        """Store a file of any size, in parts where it is large.

        A reader sees the old object or the new one, as with ``put``.

        Raises:
            OSError: The file can't be read.
        """
        full = self._full(key)
        try:
            self._client.upload_file(
                str(path),
                self._bucket,
                full,
                ExtraArgs={"ContentType": content_type},
                Config=TRANSFER,
            )
        except S3UploadFailedError as exc:
            cause = exc.__cause__ or exc.__context__  # boto3 makes a text of the real one
            failed = cause if isinstance(cause, Exception) else exc
            raise self._failed("store", key, failed) from exc
        except BOTO_ERRORS as exc:
            raise self._failed("store", key, exc) from exc

    def get_file(self, key: str, path: Path) -> None:
        """Write an object of any size into a file.

        Raises:
            ObjectMissing: There is none.
            OSError: The file can't be written.
        """
        full = self._full(key)
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=full)
            with closing(answer["Body"]) as stream, path.open("wb") as file:
                for piece in stream.iter_chunks(PIECE_BYTES):
                    file.write(piece)
        except BOTO_ERRORS as exc:
            raise self._failed("read", key, exc) from exc

    def size(self, key: str) -> int | None:
        """Bytes of the object, or None where there is none."""
        full = self._full(key)
        try:
            return self._client.head_object(Bucket=self._bucket, Key=full)["ContentLength"]
        except BOTO_ERRORS as exc:
            if code_of(exc) in MISSING_CODES:
                return None
            raise self._failed("look up", key, exc) from exc

    def exists(self, key: str) -> bool:
        """Whether there is an object under ``key``."""
        return self.size(key) is not None

    def sizes(self, keys: Iterable[str]) -> dict[str, int]:
        """Bytes of those of ``keys`` that are stored, looked up in parallel.

        For the keys of a batch or two; for all of a sweep, ``list`` asks once per 1,000 keys.
        """
        return self._in_parallel(self.size, keys)

    def holding(self, keys: Iterable[str], *, first: bytes) -> dict[str, int]:
        """Bytes of those of ``keys`` whose objects begin with ``first``, looked up as by ``sizes``.

        A HEAD is not taken at its word: gateways and caches have been known to answer 200 for
        what is not there, and an image believed to be stored is never made.
        """
        return self._in_parallel(lambda key: self._size_if_begins(key, first), keys)

    def _size_if_begins(self, key: str, first: bytes) -> int | None:
        if self.size(key) is None:
            return None
        full = self._full(key)
        try:
            answer = self._client.get_object(
                Bucket=self._bucket, Key=full, Range=f"bytes=0-{len(first) - 1}"
            )
            with closing(answer["Body"]) as stream:
                if stream.read(len(first)) != first:
                    return None
        except BOTO_ERRORS as exc:
            if code_of(exc) in MISSING_CODES or code_of(exc) in EMPTY_CODES:
                return None
            raise self._failed("look up", key, exc) from exc
        whole = answer.get("ContentRange", "").rpartition("/")[2]
        return int(whole) if whole.isdecimal() else answer["ContentLength"]

    def _in_parallel(
        self, look_up: Callable[[str], int | None], keys: Iterable[str]
    ) -> dict[str, int]:
        wanted = tuple(dict.fromkeys(keys))
        if len(wanted) <= 1:
            found: Iterable[int | None] = tuple(look_up(key) for key in wanted)
        else:
            with ThreadPoolExecutor(
                min(PARALLEL_REQUESTS, len(wanted)), thread_name_prefix="storage"
            ) as threads:
                try:
                    found = tuple(threads.map(look_up, wanted))
                except BaseException:
                    threads.shutdown(wait=False, cancel_futures=True)
                    raise
        return {key: size for key, size in zip(wanted, found, strict=True) if size is not None}

    def exists_many(self, keys: Iterable[str]) -> set[str]:
        """Those of ``keys`` that are stored, looked up in parallel as by ``sizes``."""
        return set(self.sizes(keys))

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Every object whose key begins with ``prefix``, in key order.

        Objects stored while the listing runs may or may not be in it.
        """
        if ".." in prefix.split("/"):
            raise InvalidInput(f"prefix {prefix!r} climbs out with '..': write a plain one")
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._root + prefix
        )
        try:
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield StoredObject(key=entry["Key"][len(self._root) :], size=entry["Size"])
        except BOTO_ERRORS as exc:
            raise self._failed("list", prefix, exc) from exc

    def delete(self, key: str) -> None:
        """Remove the object; one that is not there is no error."""
        full = self._full(key)
        try:
            self._client.delete_object(Bucket=self._bucket, Key=full)
        except BOTO_ERRORS as exc:
            if code_of(exc) not in MISSING_CODES:
                raise self._failed("delete", key, exc) from exc

    def uri(self, key: str) -> str:
        """``s3://bucket/prefix/key``, for people and other programs."""
        return f"s3://{self._bucket}/{self._root}{key}"

    def check(self) -> None:
        """Ask whether the endpoint answers, knows the bucket and lets us in.

        Raises:
            InvalidSettings: It answers, but endpoint, bucket, region or credentials are wrong.
            StorageError: It does not answer, or is not well.
        """
        try:
            # One level of one page: HEAD would be cheaper but carries no reason when refused,
            # and any web server answers a HEAD with 200.
            answer = self._client.list_objects_v2(
                Bucket=self._bucket, Prefix=self._root, Delimiter="/", MaxKeys=1
            )
        except BOTO_ERRORS as exc:
            raise self._faults.refused(exc) or self._failed("list", "", exc) from exc
        if "MaxKeys" not in answer and "IsTruncated" not in answer and "Name" not in answer:
            raise self._faults.not_s3()

    def _full(self, key: str) -> str:
        """The key in the bucket.

        Raises:
            InvalidInput: The key could leave the prefix, or no file system could hold it.
        """
        full = self._root + key
        if (
            any(part in ("", ".", "..") for part in key.split("/"))
            or any(ord(letter) < 32 or ord(letter) == 127 for letter in key)
            or "\\" in key
        ):
            raise InvalidInput(
                f"object key {key!r}: write plain names joined by '/', "
                f"without '..', empty parts, backslashes or control characters"
            )
        try:
            length = len(full.encode())
        except UnicodeEncodeError as exc:
            raise InvalidInput(f"object key {key!r} is not valid Unicode text") from exc
        if length > MAX_KEY_BYTES:
            raise InvalidInput(
                f"object key {key[:40] + '...'!r} has {length} bytes: the limit is {MAX_KEY_BYTES}"
            )
        return full

    def _failed(self, verb: str, key: str, exc: Exception) -> StorageError:
        if verb == "read" and code_of(exc) in MISSING_CODES:
            return ObjectMissing(key)
        return self._faults.failed(f"cannot {verb} {self.uri(key)}", exc)
