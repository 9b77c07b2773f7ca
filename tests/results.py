"""Sweeps that are read back in tests, and images as a worker would have stored them."""

from __future__ import annotations

from dataclasses import asdict

from PIL import Image, ImageDraw

from producer.results import SweepResults
from shared.addressing import address
from shared.digest import acting
from shared.image_metadata import encode_png
from shared.pin import Pin
from shared.storage import Storage
from tests.factories import make_pin, make_sweep

PIN = make_pin(scheduler="DDIMScheduler")


def make_results(
    *, storage: Storage | None = None, pin: Pin | None = PIN, **fields: object
) -> SweepResults:
    """Results of a sweep whose weights are known; without storage, only names and addresses."""
    layout = make_sweep(**fields).layout
    pins = {block.model: pin for block in layout.blocks} if pin else {}
    return SweepResults(layout.manifest, layout, pins, storage)  # type: ignore[arg-type]


def make_image(results: SweepResults, index: int) -> bytes:
    """The PNG of one job, as stored: a colour and a disc that depend on the index."""
    job, pin = results.job_of(index), PIN
    place = address(job, pin, results.manifest.output)
    size = (job.width or pin.width, job.height or pin.height)
    hue = (index * 67) % 360
    pixels = Image.new("RGB", size, f"hsl({hue}, 45%, 88%)")
    radius = min(size) * (2 + index % 3) // 10
    middle = (size[0] // 2, size[1] // 2)
    ImageDraw.Draw(pixels).circle(middle, radius, fill=f"hsl({(hue + 150) % 360}, 60%, 45%)")
    return encode_png(
        pixels, job=asdict(acting(job, pin)), digest=place.digest, pin=pin.to_record()
    )


def store_images(results: SweepResults, indices: range) -> None:
    """Put these jobs' images where a worker would."""
    for index in indices:
        key = results.key_of(index)
        assert key is not None
        results.storage.put(key, make_image(results, index), content_type="image/png")
