"""Images that are small in bytes and pixels, and take their reader minutes all the same."""

from __future__ import annotations

from shared.errors import InvalidInput

MAX_PNG_CHUNKS = 20_000
"""Of one file: 64 MiB of pixels in the 8 KiB pieces that libpng writes are 8,192."""
MAX_PNG_NOTES = 1_000
"""Chunks that are no pixels: Pillow takes a time of its own over each."""
MAX_JPEG_SCANS = 50
"""Of one file: a progressive JPEG has about ten, and each costs as much as a whole image."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8"
JPEG_SCAN = b"\xff\xda"
"""A marker that no byte of a scan looks like."""
PIXELS = (b"IDAT", b"fdAT")


def check_quick(body: bytes) -> None:
    """Refuse a PNG of many chunks and a JPEG of many scans; nothing is decompressed.

    Raises:
        InvalidInput: What is wrong with it, to be put after its name.
    """
    if body.startswith(PNG_SIGNATURE):
        _check_chunks(body)
    elif body.startswith(JPEG_START) and body.count(JPEG_SCAN) > MAX_JPEG_SCANS:
        raise InvalidInput(
            f"has more than {MAX_JPEG_SCANS} scans: save it again, as a plain JPEG file"
        )


def _check_chunks(body: bytes) -> None:
    at, notes = len(PNG_SIGNATURE), 0
    for _ in range(MAX_PNG_CHUNKS):
        length, kind = int.from_bytes(body[at : at + 4], "big"), body[at + 4 : at + 8]
        if kind in (b"", b"IEND"):
            return
        notes += kind not in PIXELS
        if notes > MAX_PNG_NOTES:
            break
        at += length + 12
    raise InvalidInput(
        f"has more than {MAX_PNG_NOTES:,} chunks besides its pixels, or {MAX_PNG_CHUNKS:,} in all: "
        "save it again, without its texts"
    )
