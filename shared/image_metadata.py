"""The job inside its PNG: one text for people's tools, one record to make the image again.

A ``parameters`` chunk holds what AUTOMATIC1111's tools and their relatives show. A ``seedbed``
chunk holds the whole record as canonical JSON, and is the only one read back.
"""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from shared.canonical import canonical_json
from shared.errors import InvalidInput

VERSION = 1
"""Of the ``seedbed`` record; a reader refuses a later one."""

CHUNK = "seedbed"

COMPRESS_LEVEL = 4
"""zlib's 0-9. At 512 x 512, 4 took 14-47 ms an image and 6 took 38-52, for files at most 10%
smaller."""

MAX_RECORD_BYTES = 1 << 20
"""Longest ``seedbed`` text that is read: a thousand times a usual one."""

MAX_CHUNKS = 100_000
"""Chunks looked at before a file is given up as hostile; Pillow cuts pixels into 64 KiB ones."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MODES = ("RGB", "RGBA", "L")

SAMPLERS = {
    "DDIMScheduler": "DDIM",
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "DPMSolverSDEScheduler": "DPM++ SDE",
    "DPMSolverSinglestepScheduler": "DPM++ 2S",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "EulerDiscreteScheduler": "Euler",
    "HeunDiscreteScheduler": "Heun",
    "KDPM2AncestralDiscreteScheduler": "DPM2 a",
    "KDPM2DiscreteScheduler": "DPM2",
    "LCMScheduler": "LCM",
    "LMSDiscreteScheduler": "LMS",
    "PNDMScheduler": "PLMS",
    "UniPCMultistepScheduler": "UniPC",
}
"""diffusers' class to the name that the other tools know; others lose their ``Scheduler``."""

SCHEDULES = {
    "use_karras_sigmas": "Karras",
    "use_exponential_sigmas": "Exponential",
    "use_beta_sigmas": "Beta",
}
"""A scheduler's setting to the name that the other tools know."""


def encode_png(
    pixels: Image.Image,
    *,
    job: Mapping[str, object],
    digest: str,
    pin: Mapping[str, object] | None = None,
    flagged: bool = False,
) -> bytes:
    """The PNG that is stored: the same pixels and arguments always give the same bytes.

    That holds within one version of Pillow and zlib. Nothing else is written: no time, no
    host, no profile that ``pixels`` came with.

    Args:
        pixels: RGB, RGBA or L; other modes are turned into RGB.
        job: Every field of the job, by name; values fit for JSON.
        digest: The job's identity, 64 hexadecimal digits.
        pin: What the worker had loaded: weights, dtype, renderer.
        flagged: The checkpoint's safety checker blacked it out: whoever reuses it has to know.

    Raises:
        InvalidInput: A text is not valid Unicode (a lone surrogate), or a number not finite.
    """
    record = {"digest": digest, "job": dict(job), "pin": dict(pin or {}), "version": VERSION}
    if flagged:
        record["flagged"] = True
    chunks = PngInfo()
    try:
        # PngInfo picks tEXt where Latin-1 is enough, which older tools want, else UTF-8 iTXt.
        chunks.add_text("parameters", parameters_text(job, size=pixels.size).replace("\0", " "))
        chunks.add_itxt(CHUNK, canonical_json(record))
    except UnicodeEncodeError as exc:
        raise InvalidInput(
            "a text of the job is not valid Unicode (it holds half of a surrogate pair): "
            "write the character itself"
        ) from exc
    except ValueError as exc:
        raise InvalidInput("a number of the job is not finite: write a finite one") from exc
    plain = pixels.copy() if pixels.mode in MODES else pixels.convert("RGB")
    plain.info = {}  # Pillow would write a profile or transparency found there
    file = io.BytesIO()
    plain.save(file, "PNG", pnginfo=chunks, compress_level=COMPRESS_LEVEL)
    return file.getvalue()


def parameters_text(job: Mapping[str, object], *, size: tuple[int, int]) -> str:
    """The prompt, the negative prompt if there is one, and a line of ``Name: value`` pairs.

    Args:
        job: Fields by name; those that are missing or None are left out.
        size: (width, height) in pixels, as they came out.
    """
    lines = [str(job.get("prompt") or "")]
    if job.get("negative_prompt"):
        lines.append(f"Negative prompt: {job['negative_prompt']}")
    pairs = {
        "Steps": job.get("num_inference_steps"),
        "Sampler": _sampler(job.get("scheduler")),
        "Schedule type": _schedule(_inside(job, "scheduler_config")),
        "CFG scale": job.get("guidance_scale"),
        "Seed": job.get("seed"),
        "Size": f"{size[0]}x{size[1]}",
        "Model": job.get("model"),
        "VAE": job.get("vae"),
        "Clip skip": job.get("clip_skip"),
        "Timesteps": job.get("timesteps"),
        "Sigmas": job.get("sigmas"),
        "Loras": _loras(_inside(job, "loras")),
    }
    shown = (f"{name}: {_quoted(value)}" for name, value in pairs.items() if value is not None)
    lines.append(", ".join(shown))
    return "\n".join(lines)


def read_metadata(image: bytes | Path) -> dict[str, object]:
    """The ``seedbed`` record of a stored image; its pixels are not decoded.

    Args:
        image: The file's bytes, or where it is.

    Returns:
        ``{"version": 1, "digest": ..., "job": {...}, "pin": {...}}``, with ``"flagged": True`` in
        an image that a safety checker blacked out.

    Raises:
        InvalidInput: Not a PNG, no record in it, or one that Seedbed can't have written.
    """
    if isinstance(image, bytes):
        return _read(io.BytesIO(image), name="the image")
    try:
        with image.open("rb") as file:
            return _read(file, name=repr(str(image)))
    except OSError as exc:
        raise InvalidInput(f"cannot read {str(image)!r}: {exc.strerror or exc}") from exc


def _read(file: BinaryIO, *, name: str) -> dict[str, object]:
    for kind, body in _text_chunks(file, name=name):
        keyword, _, rest = body.partition(b"\0")
        if keyword == CHUNK.encode():
            return _record(_text(kind, rest, name=name), name=name)
    raise InvalidInput(
        f"{name} has no {CHUNK!r} record: Seedbed did not make it, "
        f"or a program that saved it again left the record out"
    )


def _text_chunks(file: BinaryIO, *, name: str) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of each text chunk of bearable size; everything else is skipped unread."""
    if file.read(len(SIGNATURE)) != SIGNATURE:
        raise InvalidInput(f"{name} is not a PNG image")
    for _ in range(MAX_CHUNKS):
        head = file.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or kind == b"IEND":
            return
        if kind not in (b"tEXt", b"iTXt") or length > MAX_RECORD_BYTES + 100:
            file.seek(length + 4, io.SEEK_CUR)
            continue
        body, checksum = file.read(length), file.read(4)
        if zlib.crc32(kind + body) != int.from_bytes(checksum, "big") or len(checksum) < 4:
            raise InvalidInput(f"{name} is damaged: a text chunk does not match its checksum")
        yield kind, body


def _text(kind: bytes, rest: bytes, *, name: str) -> str:
    """What follows the keyword: tEXt is Latin-1; iTXt has flags, language and translation first."""
    if kind == b"tEXt":  # what Pillow makes of it when someone copies ``image.text`` by hand
        return rest.decode("latin-1")
    try:
        flags, (_, _, text) = rest[:2], rest[2:].split(b"\0", 2)
        if flags[:1] == b"\1":
            inflate = zlib.decompressobj()
            text = inflate.decompress(text, MAX_RECORD_BYTES)
            if not inflate.eof:
                raise InvalidInput(f"{name} has a {CHUNK!r} record longer than 1 MiB")
        return text.decode()
    except (ValueError, zlib.error) as exc:
        raise InvalidInput(f"{name} has a damaged {CHUNK!r} record") from exc


def _record(text: str, *, name: str) -> dict[str, object]:
    try:
        record = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise InvalidInput(f"{name} has a {CHUNK!r} record that is not JSON") from exc
    if not isinstance(record, dict):
        raise InvalidInput(f"{name} has a {CHUNK!r} record that is not a JSON object")
    version = record.get("version")
    if type(version) is int and version > VERSION:
        raise InvalidInput(
            f"{name} was written by a later Seedbed (record version {version}): upgrade Seedbed"
        )
    digest = record.get("digest")
    wrong = [
        field
        for field, right in (
            ("version", version == VERSION and type(version) is int),
            ("digest", isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest)),
            ("job", isinstance(record.get("job"), dict)),
            ("pin", isinstance(record.get("pin"), dict)),
        )
        if not right
    ]
    if wrong:
        raise InvalidInput(f"{name} has a {CHUNK!r} record whose {wrong[0]!r} is missing or wrong")
    return record


def _no_constant(name: str) -> object:
    raise ValueError(name)


def _sampler(scheduler: object) -> str | None:
    if scheduler is None:
        return None
    return SAMPLERS.get(str(scheduler)) or str(scheduler).removesuffix("Scheduler")


def _inside(job: Mapping[str, object], name: str) -> object:
    """What a structured field says, see `shared.structured`."""
    text = job.get(name)
    return json.loads(text) if isinstance(text, str) else None


def _schedule(settings: object) -> str | None:
    """The other tools' word for how noise levels are spaced."""
    if not isinstance(settings, Mapping):
        return None
    return next((word for name, word in SCHEDULES.items() if settings.get(name) is True), None)


def _loras(items: object) -> str | None:
    if not isinstance(items, list):
        return None
    return ", ".join(f"{item['name']}: {item['weight']}" for item in items)


def _quoted(value: object) -> str:
    """As AUTOMATIC1111 writes a value that holds its own separators: as a JSON string."""
    text = str(value)
    if any(mark in text for mark in ',:\n"'):
        return json.dumps(text, ensure_ascii=False)
    return text
