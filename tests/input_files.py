"""Input files for tests: pictures and noise, made on the spot."""

from __future__ import annotations

import io
import json
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

from PIL import Image


def picture_bytes(
    size: tuple[int, int] = (64, 64), *, colour: str = "red", form: str = "PNG", turned: int = 1
) -> bytes:
    """A picture of one colour; ``turned`` is EXIF's orientation."""
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = turned
    more = {"exif": exif} if turned != 1 else {}
    Image.new("RGB", size, colour).save(file, form, **more)
    return file.getvalue()


def write_picture(path: Path, size: tuple[int, int] = (64, 64), *, colour: str = "red") -> Path:
    path.write_bytes(picture_bytes(size, colour=colour))
    return path


def huge_png(width: int, height: int) -> bytes:
    """A few dozen bytes that say they are a picture of any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(b"\0" * 64)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def noise_bytes(
    shape: Sequence[int] = (4, 8, 8), *, kind: str = "F32", names: Sequence[str] = ("latents",)
) -> bytes:
    """A safetensors file of zeros."""
    size = math.prod(shape) * {"F16": 2, "BF16": 2, "F32": 4, "F64": 8, "I32": 4}[kind]
    header = {
        name: {
            "dtype": kind,
            "shape": list(shape),
            "data_offsets": [size * place, size * (place + 1)],
        }
        for place, name in enumerate(names)
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * size * len(names)
