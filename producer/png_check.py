"""Whether a PNG is whole and holds the image it should: what a download must pass."""

from __future__ import annotations

import zlib
from pathlib import Path

from shared.errors import InvalidInput
from shared.image_metadata import SIGNATURE, read_metadata

END = b"\0\0\0\0IEND\xaeB`\x82"
"""The last chunk, length and checksum included."""


def flaw(data: bytes, digest: str) -> str | None:
    """What is wrong with the bytes of an image, in a few words; None: nothing.

    Every chunk is checked against its checksum, so that a bit that flipped on a disk or on the
    way is found; the pixels are not decoded.

    Args:
        digest: Of the job whose image it should be.
    """
    at = len(SIGNATURE)
    if not data.startswith(SIGNATURE):
        return "is not a PNG"
    while data[at : at + 12] != END:
        length = int.from_bytes(data[at : at + 4], "big")
        stop = at + 8 + length
        if stop + 4 > len(data):
            return f"is cut off after {len(data):,} bytes"
        if zlib.crc32(memoryview(data)[at + 4 : stop]) != int.from_bytes(
            data[stop : stop + 4], "big"
        ):
            return f"is damaged near byte {at:,}"
        at = stop + 4
    if at + len(END) != len(data):
        return "goes on after its end"
    return _identity_flaw(data, digest)


def is_whole_file(path: Path, digest: str) -> bool:
    """Whether a file is this image from its first chunks to its last; its middle is trusted.

    Files are written whole or not at all, so that reading a million of them again would be
    waste.
    """
    try:
        with path.open("rb") as file:
            file.seek(-len(END), 2)
            ended = file.read() == END
    except OSError:  # not there, a folder, or shorter than the last chunk
        return False
    return ended and _identity_flaw(path, digest) is None


def _identity_flaw(image: bytes | Path, digest: str) -> str | None:
    try:
        found = read_metadata(image)["digest"]
    except InvalidInput:
        return "has no record of its job"
    return None if found == digest else f"is another job's image ({str(found)[:12]})"
