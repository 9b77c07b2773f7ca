"""torch.compile for the denoiser: compiled before the worker is ready, never while it serves.

A compiled model is compiled for the shapes that it has seen. So batches are padded, at the
denoiser, to the few numbers of rows that were compiled at load, and the padded rows are thrown
away. A batch of a shape that was not compiled (another image size) runs uncompiled, and so does a
reproducible one, whose bits must be those of workers that compile nothing.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from shared.errors import InvalidSettings, OutOfMemory, RenderError
from shared.job import Job
from worker.engine import StockEngine
from worker.locating import first_line
from worker.reproducing import may_run_compiled

WARM_STEPS = 4
"""Denoising steps of a warm-up batch: the first compiles, and some schedulers can't do fewer."""

RECOMPILE_LIMIT = 256
"""Shapes that torch keeps of one piece of code, which all models of a class share; its own 8 is
three models' worth."""

NOT_ROWS = frozenset({"txt_ids", "img_ids"})
"""Arguments of denoisers whose first axis is positions, not rows."""

logger = logging.getLogger(__name__)


def check_compiler(device: torch.device) -> None:
    """Compile one addition, as proof that it can be done here.

    Raises:
        InvalidSettings: It can't.
    """
    started = time.perf_counter()

    def plus_one(values: torch.Tensor) -> torch.Tensor:
        return values + 1

    try:
        torch.compile(plus_one)(torch.ones(2, device=device))
    except Exception as error:
        raise _refused(error) from error
    logger.info("compiler tried", extra={"seconds": round(time.perf_counter() - started, 2)})


def row_sizes(batch_size: int, *, halves: int) -> tuple[int, ...]:
    """Rows of the denoiser that are compiled: a full batch, guided or not, and a job alone.

    Args:
        batch_size: Most jobs of a batch.
        halves: Rows a guided job takes: 2, or 1 where the model embeds the guidance scale.
    """
    return tuple(sorted({batch_size, halves * batch_size, halves}))


class CompiledDenoiser:
    """Stands in for a denoiser's forward: pads, runs the compiled code, drops the padding.

    Attributes:
        sizes: Numbers of rows to pad to, ascending.
        compiled: Calls that went through compiled code.
        uncompiled: Calls of a shape that was not compiled, and of reproducible batches.
    """

    def __init__(self, module: torch.nn.Module, sizes: Sequence[int], backend: str) -> None:
        # Where accelerate's hook brings the weights first, it has put the own forward aside.
        place = "_old_forward" if hasattr(module, "_old_forward") else "forward"
        self.sizes = tuple(sizes)
        self.compiled = 0
        self.uncompiled = 0
        self._plain: Callable[..., Any] = getattr(module, place)
        self._compiled: Callable[..., Any] = torch.compile(
            self._plain, dynamic=False, backend=backend
        )
        self._names = tuple(inspect.signature(self._plain).parameters)
        self._learning = False
        self._known: set[tuple[int, ...]] = set()
        setattr(module, place, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = dict(zip(self._names, args, strict=False)) | kwargs
        latents = given[self._names[0]]
        rows = latents.shape[0]
        wanted = next((size for size in self.sizes if size >= rows), rows)
        # latents: (rows, channels, height, width), or (rows, tokens, channels)
        shape = (wanted, *latents.shape[1:])
        if self._learning:
            self._known.add(shape)
        if shape not in self._known or not may_run_compiled():
            self.uncompiled += 1
            return self._plain(*args, **kwargs)
        self.compiled += 1
        given["timestep"] = _time(given["timestep"], latents)
        padded = {name: _padded(name, value, rows, wanted) for name, value in given.items()}
        # A guard that fails all the same (no shape does) costs that call its speed, no compiling.
        with torch.compiler.set_stance("default" if self._learning else "eager_on_recompile"):
            output = self._compiled(**padded)
        return _cut(output, rows, wanted)

    def learn(self, on: bool) -> None:
        """While on, shapes that are met are compiled."""
        self._learning = on


def compile_denoiser(
    engine: StockEngine, job: Job, batch_size: int, *, backend: str = "inductor"
) -> CompiledDenoiser:
    """Compile the denoiser of an engine for batches of jobs like this one.

    Args:
        engine: Renders with it from now on.
        job: A typical one; its size is what is compiled for.
        batch_size: Most jobs of a batch.
        backend: torch's name of what turns the captured graph into code.

    Raises:
        InvalidSettings: The model can't be compiled here.
        OutOfMemory: A full batch does not fit.
    """
    started = time.perf_counter()
    # threads that serve are others than the one that loads
    torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
    loaded = engine.loaded
    denoiser = loaded.denoiser
    if denoiser is None:
        raise InvalidSettings(
            f"--compile does not work with {type(loaded.pipeline).__name__}, which has neither "
            "unet nor transformer: leave it out"
        )
    halves = 1 if loaded.embeds_guidance else 2
    compiled = CompiledDenoiser(denoiser, row_sizes(batch_size, halves=halves), backend)
    job = replace(job, num_inference_steps=WARM_STEPS)
    guided, unguided = replace(job, guidance_scale=5.0), replace(job, guidance_scale=1.0)
    compiled.learn(True)
    try:
        for kind, rows in ((guided, batch_size), (unguided, batch_size), (guided, 1)):
            jobs = [replace(kind, seed=seed) for seed in range(rows)]
            for outcome in engine.render(jobs):
                if isinstance(outcome, OutOfMemory):
                    raise outcome
                if isinstance(outcome, RenderError):
                    raise _refused(outcome) from outcome
    finally:
        compiled.learn(False)
    logger.info(
        "denoiser compiled",
        extra={
            "rows": ", ".join(map(str, compiled.sizes)),
            "seconds": round(time.perf_counter() - started, 2),
        },
    )
    return compiled


def _refused(error: Exception) -> InvalidSettings:
    return InvalidSettings(
        f"--compile does not work here ({first_line(error)}): install what torch.compile needs "
        "(g++ on a CPU, gcc and triton on CUDA), or leave it out"
    )


def _time(timestep: Any, latents: torch.Tensor) -> torch.Tensor:
    """The timestep as float32 on the device.

    Schedulers give it as int64, float32 or float64, and keep it where they like; models turn it
    into float32 first thing. Each of these would be a shape of its own to the compiler.
    """
    if not torch.is_tensor(timestep):
        timestep = torch.tensor(timestep)
    own: torch.Tensor = timestep
    wide = own.dtype in (torch.int64, torch.int32, torch.float64)
    return own.to(latents.device, torch.float32 if wide else own.dtype)


def _padded(name: str, value: Any, rows: int, wanted: int) -> Any:
    """Repeat the last row; dense in memory, since strides too are a shape to the compiler."""
    if isinstance(value, dict):
        return {key: _padded(key, item, rows, wanted) for key, item in value.items()}
    if not torch.is_tensor(value) or value.ndim == 0:
        return value
    if value.shape[0] == rows != wanted and name not in NOT_ROWS:
        value = torch.cat([value, value[-1:].expand(wanted - rows, *value.shape[1:])])
    return value.contiguous()


def _cut(output: Any, rows: int, wanted: int) -> Any:
    """The output without the padded rows."""
    if rows == wanted:
        return output
    if isinstance(output, tuple):
        return tuple(part[:rows] for part in output)
    return type(output)(**{name: part[:rows] for name, part in output.items()})
