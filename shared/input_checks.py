"""What an input file may be, told from its bytes before any of it is decoded."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import InvalidInput
from shared.slow_images import check_quick

if TYPE_CHECKING:
    from PIL import Image

MAX_INPUT_BYTES = 64 * 2**20
"""Of one file: a PNG of 32 megapixels that does not compress is larger, a photograph is not."""
MAX_INPUT_PIXELS = 2**25
"""Of one image: 8192 x 4096, a hundred megabytes when it is decoded."""
IMAGE_FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
"""Pillow's names of what is read, and their content types; its other readers stay shut."""
SEVERAL_JPEGS = "MPO"
"""What Pillow calls a JPEG with pictures behind its first, which is the one that is read."""
NOISE_TYPES = {"F16": 2, "BF16": 2, "F32": 4}
"""safetensors' names of the number formats that noise may have, and bytes a number."""
NOISE_CONTENT = "application/octet-stream"
MAX_HEADER_BYTES = 2**16
"""Of a safetensors file with one tensor: a usual one has a hundred."""
ORIENTATION = 0x0112
"""EXIF's tag; values from 5 on lay the image on its side."""
PICKLES = (b"\x80", b"PK\x03\x04")
"""How a pickle and torch's zip of pickles begin."""
LATENTS = "latents"
"""The field, and the name of its tensor where the file has several."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a file's head says.

    Attributes:
        content_type: For whoever downloads it.
        size: (width, height) of an image in pixels, as a viewer shows it; None of noise.
    """

    content_type: str
    size: tuple[int, int] | None = None


def check_input(field: str, body: bytes) -> Checked:
    """Whether a file will do for an input field, as far as its head tells.

    Raises:
        InvalidInput: What is wrong with it, to be put after its name.
    """
    if len(body) > MAX_INPUT_BYTES:
        raise too_long(len(body))
    if field == LATENTS:
        noise_shape(body)
        return Checked(content_type=NOISE_CONTENT)
    image = open_image(body)
    form = "JPEG" if image.format == SEVERAL_JPEGS else str(image.format)
    return Checked(content_type=IMAGE_FORMATS[form], size=upright_size(image))


def too_long(size: int) -> InvalidInput:
    """The fault of a file above the limit."""
    return InvalidInput(
        f"has {size:,} bytes: at most {MAX_INPUT_BYTES:,} are allowed, make it smaller"
    )


def open_image(body: bytes) -> Image.Image:
    """An image whose head was read and whose pixels were not, not more than are allowed.

    Raises:
        InvalidInput: It is no image, or has too many pixels.
    """
    from PIL import Image, UnidentifiedImageError  # not for ``seedbed --help``

    check_quick(body)
    try:
        image = Image.open(io.BytesIO(body), formats=tuple(IMAGE_FORMATS))
    except UnidentifiedImageError:
        raise InvalidInput("is not an image: give a PNG, JPEG or WebP file") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise InvalidInput(
            f"has far more pixels than the {MAX_INPUT_PIXELS:,} allowed: make it smaller"
        ) from exc
    except Exception as exc:
        raise InvalidInput(damaged(exc)) from exc
    pixels = math.prod(image.size)
    if pixels > MAX_INPUT_PIXELS:
        raise InvalidInput(
            f"has {image.width} x {image.height} = {pixels:,} pixels: at most "
            f"{MAX_INPUT_PIXELS:,} are allowed, make it smaller"
        )
    return image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as a viewer shows the image, from its head alone.

    Raises:
        InvalidInput: Its EXIF is broken.
    """
    if image.format == "PNG" and "exif" not in image.info:
        return image.size  # to look further, Pillow would decode it
    try:
        turned = image.getexif().get(ORIENTATION, 1)
    except Exception as exc:
        raise InvalidInput(damaged(exc)) from exc
    return (image.height, image.width) if turned in (5, 6, 7, 8) else image.size


def noise_shape(body: bytes) -> tuple[str, tuple[int, ...]]:
    """Name and shape of the tensor in a safetensors file; no number of it is read.

    Raises:
        InvalidInput: It is no such file, a pickle, or has not one tensor of plain noise.
    """
    if body.startswith(PICKLES):
        raise InvalidInput(
            "is a pickle, which can run code when it is loaded: save the noise with "
            "safetensors.torch.save_file({'latents': noise}, FILE)"
        )
    length = int.from_bytes(body[:8], "little")
    try:
        if len(body) < 8 or length > MAX_HEADER_BYTES:
            raise ValueError
        header = json.loads(body[8 : 8 + length])
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        name = LATENTS if LATENTS in tensors else next(iter(tensors))
        kind, shape = tensors[name]["dtype"], tuple(tensors[name]["shape"])
        start, end = tensors[name]["data_offsets"]
        if not all(type(part) is int and part >= 0 for part in (*shape, start, end)):
            raise ValueError
    except (ValueError, AttributeError, KeyError, TypeError, StopIteration, RecursionError):
        raise InvalidInput(
            "is not a safetensors file with noise: write it with "
            "safetensors.torch.save_file({'latents': noise}, FILE)"
        ) from None
    if len(tensors) > 1 and LATENTS not in tensors:
        raise InvalidInput("has several tensors and none called 'latents': keep the noise alone")
    if kind not in NOISE_TYPES:
        raise InvalidInput(
            f"has numbers of type {kind[:10]!r}: noise is float16, bfloat16 or float32"
        )
    if end - start != math.prod(shape) * NOISE_TYPES[kind] or 8 + length + end > len(body):
        raise InvalidInput("is cut off: save it again")
    return name, shape


def damaged(exc: BaseException) -> str:
    """The fault of an image that Pillow can't read."""
    text = str(exc).strip().partition("\n")[0][:100]
    return f"is a damaged image ({text or type(exc).__name__}): save it again"
