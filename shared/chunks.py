"""Chunks: about a thousand rows of a long axis, compressed, named by what they say.

A chunk is the canonical JSON of its columns. Its name is the SHA-256 of that text, not of the
compressed bytes, which depend on the version of the compressor: equal rows have equal names.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Sequence
from typing import Protocol

from shared.bounded_json import read_json
from shared.canonical import canonical_json, sha256_hex
from shared.errors import InvalidManifest, InvalidSweep
from shared.fields import Value

CHUNK_ROWS = 1_000
"""Rows of a chunk: a hundred kilobytes of prompts, which a worker reads in milliseconds."""
MAX_CHUNK_ROWS = 10_000
"""What a stranger's chunk may have."""
INLINE_VALUES = 4_096
"""Longer axes are kept in chunks, shorter ones in the manifest itself ..."""
INLINE_CHARS = 2**20
"""... unless their texts have more characters than this in all."""
MAX_CHUNK_BYTES = 128 * 2**20
"""Bounds what one chunk takes when decompressed: a thousand rows of the longest texts."""
COMPRESSION = 5
"""zlib's level: of prompts, higher ones made nothing shorter and took up to half as long again."""
DIGEST = re.compile(r"[0-9a-f]{64}")


class ChunkSource(Protocol):
    """Where the chunks of an axis are: a spool before `submit`, storage after it."""

    def body(self, digest: str) -> bytes:
        """One chunk, compressed; it is not checked.

        Raises:
            StorageError: It is not there, or nobody answers.
        """


def chunk_key(digest: str) -> str:
    """Where storage keeps a chunk."""
    return f"inputs/{digest}.json.z"


def pack_chunk(content: object) -> tuple[str, bytes]:
    """Name and compressed body of what a chunk says.

    Raises:
        InvalidSweep: It is too long for those who are to read it.
    """
    text = canonical_json(content)
    body = text.encode()
    if len(body) > MAX_CHUNK_BYTES:
        raise InvalidSweep(
            f"the sweep has texts so long that {CHUNK_ROWS:,} rows are over "
            f"{MAX_CHUNK_BYTES:,} bytes: shorten them"
        )
    return sha256_hex(text), zlib.compress(body, COMPRESSION)


def unpack_chunk(digest: str, body: bytes) -> object:
    """What a chunk says, once its name proves that it is the one that was meant.

    Raises:
        InvalidManifest: It is another, broken, or not a chunk.
    """
    try:
        inflater = zlib.decompressobj()
        text = inflater.decompress(body, MAX_CHUNK_BYTES)
        whole = inflater.eof and not inflater.unconsumed_tail
    except zlib.error as exc:
        raise InvalidManifest(f"chunk {digest[:12]} can't be decompressed ({exc})") from exc
    if not whole:
        raise InvalidManifest(f"chunk {digest[:12]} is cut off or above {MAX_CHUNK_BYTES:,} bytes")
    if hashlib.sha256(text).hexdigest() != digest:
        raise InvalidManifest(f"chunk {digest[:12]} holds something else than its name says")
    try:
        return read_json(text.decode(), f"chunk {digest[:12]}")
    except UnicodeDecodeError as exc:
        raise InvalidManifest(f"chunk {digest[:12]}: not JSON ({exc.reason})") from exc


def columns_of(rows: Sequence[Sequence[Value]]) -> list[list[Value]]:
    """What a chunk of these rows says: a list for each field."""
    return [list(column) for column in zip(*rows, strict=True)]
