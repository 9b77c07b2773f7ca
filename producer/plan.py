"""What a sweep would come to, reckoned without writing anything: counts, batches, time, money."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from producer.models import weights_of
from producer.plan_warnings import warnings_of
from shared.lanes import NATIVE_PIXELS
from shared.layout import MAX_BLOCKS, Block, Layout
from shared.pin import Pin
from shared.sweep import Sweep

if TYPE_CHECKING:
    from producer.client import Client
    from shared.queue import Rate

USUAL_BATCH = 8
"""Images a batch where no worker has measured its own."""
BYTES_PER_PIXEL = 1.6
"""A PNG of a photograph-like picture: about 420 KB at 512 x 512."""
MANY_BLOCKS = MAX_BLOCKS // 4
"""From here on a plan warns of them."""
SHOWN_JOBS = 3
"""First and last jobs listed."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the pool's workers have measured and say of themselves; empty where nobody was asked.

    Attributes:
        rates: Seconds a job by lane and recipe.
        batch_sizes: Model key to the batch size of the workers that serve it.
        native_pixels: Model key to the pixels of the checkpoint's own size.
        workers: Model key to how many workers serve it; None: nobody was asked.
    """

    rates: Sequence[Rate] = ()
    batch_sizes: Mapping[str, int] = field(default_factory=dict)
    native_pixels: Mapping[str, int] = field(default_factory=dict)
    workers: Mapping[str, int] | None = None


def ask_pool(client: Client) -> Measured:
    """What the pool's workers have measured.

    Raises:
        QueueUnavailable: Redis does not answer.
    """
    workers = client.workers()
    loaded = {worker["loaded_key"]: worker for worker in workers if "loaded_key" in worker}
    pins = {key: Pin.from_text(worker["pin"]) for key, worker in loaded.items()}
    return Measured(
        rates=client.queue.rates(),
        batch_sizes={key: worker["batch_size"] for key, worker in loaded.items()},
        native_pixels={key: pin.height * pin.width for key, pin in pins.items()},
        workers=Counter(key for worker in workers for key in worker.get("model_keys", ())),
    )


@dataclass(frozen=True, kw_only=True)
class AxisPlan:
    """One axis: the fields that vary together, and how many values they have."""

    fields: tuple[str, ...]
    values: int


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """One set of weights.

    Attributes:
        model: As ``seedbed worker --model`` takes it.
        jobs: Jobs that need it.
        workers: Live workers that serve it; None where no pool was asked.
    """

    model: str
    jobs: int
    workers: int | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sweep would come to.

    Attributes:
        batches: Forward batches of one worker, if each lane and recipe is packed alone.
        batch_size: Images a batch; the largest where they differ.
        batch_measured: Whether a worker has measured it.
        manifest_bytes: What is pushed to Redis, besides a cursor a block.
        image_bytes: About what all images will take in storage.
        seconds: With the workers that are there now; None where a rate is not known.
        money: At the price an hour that was given, over all workers.
        first: The first jobs, by the user's index.
        last: The last ones.
        warnings: What will hurt later, a sentence each.
    """

    sweep_id: str
    jobs: int
    axes: tuple[AxisPlan, ...]
    models: tuple[ModelPlan, ...]
    lanes: int
    recipes: int
    blocks: int
    batches: int
    batch_size: int
    batch_measured: bool
    manifest_bytes: int
    image_bytes: int
    seconds: float | None
    money: float | None
    first: tuple[dict[str, object], ...]
    last: tuple[dict[str, object], ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Group:
    """All jobs of one lane and recipe."""

    model: str
    lane: str
    recipe: str
    jobs: int
    cost: float


def make_plan(sweep: Sweep, measured: Measured, *, price_per_hour: float | None = None) -> Plan:
    """Reckon a sweep.

    Args:
        measured: From the pool, or empty.
        price_per_hour: Of one worker, in any currency.
    """
    layout = sweep.layout
    groups = _groups(layout.blocks)
    batch_sizes = [_batch_size(group, measured) for group in groups]
    batch_size = max(size or USUAL_BATCH for size in batch_sizes)
    work = _work_seconds(groups, measured.rates)
    workers = max(1, min(_serving(measured, groups), default=1))
    batches = sum(
        math.ceil(group.jobs / (size or USUAL_BATCH))
        for group, size in zip(groups, batch_sizes, strict=True)
    )
    models = tuple(
        ModelPlan(
            model=item.option,
            jobs=item.jobs,
            workers=None if measured.workers is None else measured.workers.get(item.key, 0),
        )
        for item in weights_of(layout)
    )
    shown = min(SHOWN_JOBS, layout.total)
    last = range(max(shown, layout.total - SHOWN_JOBS), layout.total)
    return Plan(
        sweep_id=sweep.id,
        jobs=layout.total,
        axes=tuple(AxisPlan(fields=axis.fields, values=len(axis)) for axis in sweep.manifest.axes),
        models=models,
        lanes=len({group.lane for group in groups}),
        recipes=len({group.recipe for group in groups}),
        blocks=len(layout.blocks),
        batches=batches,
        batch_size=batch_size,
        batch_measured=all(size is not None for size in batch_sizes),
        manifest_bytes=len(sweep.manifest.text.encode()),
        image_bytes=_image_bytes(layout, measured),
        seconds=None if work is None else work / workers,
        money=None if work is None or price_per_hour is None else work / 3600 * price_per_hour,
        first=tuple(_shown_job(layout, index) for index in range(shown)),
        last=tuple(_shown_job(layout, index) for index in last),
        warnings=(
            *warnings_of(sweep.manifest),
            *_packing_warnings(layout, groups, batch_size),
            *_model_warnings(models),
        ),
    )


def _groups(blocks: Sequence[Block]) -> list[_Group]:
    found: dict[tuple[str, str, str], _Group] = {}
    for block in blocks:
        key = (block.model, block.lane, block.recipe)
        jobs = block.size + (found[key].jobs if key in found else 0)
        found[key] = _Group(
            model=block.model, lane=block.lane, recipe=block.recipe, jobs=jobs, cost=block.cost
        )
    return list(found.values())


def _batch_size(group: _Group, measured: Measured) -> int | None:
    """As measured for this lane and recipe, else for the lane, else as a worker says."""
    in_lane = [
        rate for rate in measured.rates if (rate.model, rate.lane) == (group.model, group.lane)
    ]
    exact = [rate.batch for rate in in_lane if rate.recipe == group.recipe]
    return next(
        iter(exact or [rate.batch for rate in in_lane]), measured.batch_sizes.get(group.model)
    )


def _work_seconds(groups: Sequence[_Group], rates: Sequence[Rate]) -> float | None:
    """Seconds of one worker for all jobs, or None where a group has no measured rate."""
    known = {(rate.model, rate.lane, rate.recipe): rate.seconds_per_job for rate in rates}
    seconds = 0.0
    for group in groups:
        rate = known.get((group.model, group.lane, group.recipe))
        if rate is None:
            return None
        seconds += rate * group.jobs
    return seconds


def _serving(measured: Measured, groups: Sequence[_Group]) -> list[int]:
    return [(measured.workers or {}).get(group.model, 0) for group in groups]


def _image_bytes(layout: Layout, measured: Measured) -> int:
    total = 0.0
    for block in layout.blocks:
        job = layout.job_at(block.offset)
        height, width = job.height or job.width, job.width or job.height
        own = measured.native_pixels.get(block.model, NATIVE_PIXELS)
        pixels = height * width if height and width else own
        total += block.size * pixels * BYTES_PER_PIXEL
    return round(total)


def _shown_job(layout: Layout, index: int) -> dict[str, object]:
    return {"index": index, **asdict(layout.job(index))}


def _packing_warnings(layout: Layout, groups: Sequence[_Group], batch_size: int) -> list[str]:
    found = []
    small = [group for group in groups if group.jobs < batch_size]
    if len(groups) > 1 and small:
        jobs = sum(group.jobs for group in small)
        found.append(
            f"{len(small):,} of {len(groups):,} combinations of size and sampling have fewer jobs "
            f"than a batch of {batch_size} ({jobs:,} jobs): they run in small batches; "
            f"more seeds or prompts would fill them"
        )
    if len(layout.blocks) > MANY_BLOCKS:
        found.append(
            f"{len(layout.blocks):,} blocks: workers change size or sampling often, and a sweep "
            f"has at most {MAX_BLOCKS:,}; several sweeps would be quicker to handle"
        )
    return found


def _model_warnings(models: Sequence[ModelPlan]) -> list[str]:
    return [
        f"no worker serves {item.model} now: start one with 'seedbed worker --model {item.model}'"
        for item in models
        if item.workers == 0
    ]
