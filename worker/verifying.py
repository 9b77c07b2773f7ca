"""``python -m worker verify``: renders stored images again, each alone, and compares them."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image

from shared.errors import InvalidInput, ModelError, ObjectMissing, RenderError, StorageError
from shared.image_metadata import read_metadata
from shared.pin import Pin
from shared.settings import Settings
from shared.storage import Storage
from shared.verifying import Compared, Wanted, read_request, write_answer
from shared.weights import WeightsName
from shared.worker_options import WorkerOptions
from worker.device import leave_a_core, pick_device
from worker.engine import StockEngine
from worker.inputs import InputStore
from worker.loading import LoadedModel
from worker.locating import ModelSource
from worker.rescue import release_memory
from worker.served_model import load_as_told

logger = logging.getLogger(__name__)


def verify(settings: Settings, options: WorkerOptions, request: str) -> None:
    """Print an answer for each image of a request, model by model.

    Args:
        options: ``device``; ``dtype`` where it shall not be the one that the images were made in.

    Raises:
        ModelError: A model can't be had, or its weights are not those of the images.
        StorageError: Storage does not answer.
    """
    storage = Storage.connect(settings)
    storage.check()
    leave_a_core(pick_device(options.device))
    groups: dict[tuple[WeightsName, Pin], list[Wanted]] = {}
    for image in read_request(request):
        groups.setdefault((WeightsName.of(image.job), image.pin), []).append(image)
    for (name, pin), images in groups.items():
        for compared in _compare_all(storage, options, name, pin, images):
            print(write_answer(compared), flush=True)


def _compare_all(
    storage: Storage, options: WorkerOptions, name: WeightsName, pin: Pin, images: list[Wanted]
) -> Iterator[Compared]:
    loaded = _load(options, name, pin)
    engine, inputs = StockEngine(loaded), InputStore(storage)
    for image in images:
        yield _compare(storage, engine, inputs, image)
    del loaded, engine
    release_memory()


def _load(options: WorkerOptions, name: WeightsName, pin: Pin) -> LoadedModel:
    """The model, set up as the images' pin says."""
    told = replace(
        options,
        dtype=options.dtype or pin.dtype,
        autocast=pin.autocast,
        vae_tiling=pin.vae_tiling,
    )
    loaded = load_as_told(ModelSource.of(name), told, pick_device(options.device))
    here = Pin.from_text(loaded.pin)
    if here.weights != pin.weights:
        raise ModelError(
            f"the images were made with {name.model} as {pin.weights}, but here it is "
            f"{here.weights}: verify them where the same weights are"
        )
    if here != pin:
        differing = [
            f"{item} {getattr(here, item)!r} instead of {getattr(pin, item)!r}"
            for item in ("dtype", "renderer", "autocast", "vae_tiling")
            if getattr(here, item) != getattr(pin, item)
        ]
        logger.warning("rendered in another way", extra={"differs": ", ".join(differing)})
    return loaded


def _compare(storage: Storage, engine: StockEngine, inputs: InputStore, image: Wanted) -> Compared:
    def fault(text: str) -> Compared:
        return Compared(index=image.index, key=image.key, fault=text)

    try:
        body = storage.get(image.key)
        stored, digest = _pixels(body), str(read_metadata(body)["digest"])
    except ObjectMissing:
        return fault("is not in storage")
    except (InvalidInput, OSError, SyntaxError, ValueError) as exc:  # Pillow's for a broken PNG
        return fault(f"is damaged: {exc}")
    except StorageError as exc:
        storage.check()  # raises where all of storage is down, not this object alone
        return fault(f"can't be had: {exc}")
    if digest != image.digest:
        return fault(f"is another job's image ({digest[:12]})")
    (outcome,) = engine.render([image.job], inputs=inputs.load([image.job]))
    if isinstance(outcome, RenderError):
        return fault(f"can't be rendered: {outcome}")
    again = np.asarray(outcome.image.convert("RGB")).astype(np.int32)
    if again.shape != stored.shape:
        height, width = stored.shape[:2]
        return fault(f"has {width} x {height} pixels, not {again.shape[1]} x {again.shape[0]}")
    return compare(image, stored, again)


def compare(image: Wanted, stored: np.ndarray, again: np.ndarray) -> Compared:
    """How far two pictures are apart.

    Args:
        stored: (height, width, colour), 0..255.
        again: Likewise.
    """
    levels = np.abs(stored - again)
    return Compared(
        index=image.index,
        key=image.key,
        levels=int(levels.max()),
        square_error=float((levels.astype(np.float64) ** 2).mean()),
        differing=float((levels.max(axis=-1) > 0).mean()),
        values=levels.size,
    )


def _pixels(body: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(body)) as picture:
        return np.asarray(picture.convert("RGB")).astype(np.int32)
