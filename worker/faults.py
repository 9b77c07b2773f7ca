"""What an exception of a pipeline's call means: whose fault it is, and what a person is told."""

from __future__ import annotations

import traceback

import torch

from shared.errors import ModelError, OutOfMemory, RenderError, SeedbedError, UnsupportedJob
from worker.allocators import says_out_of_memory

REASON_LENGTH = 500
"""Characters of a library's message that a failed job keeps."""

BROKEN_DEVICE = ("cuda error", "device-side assert", "cudnn_status_execution_failed")
"""Messages after which a process' CUDA context is of no more use to any job."""

MACHINES = (SeedbedError, RuntimeError, MemoryError, OSError, ImportError)
"""Errors that may be this worker's: torch raises RuntimeError for whatever a device does."""


def translate(caught: Exception) -> RenderError:
    """A fresh RenderError, without traceback, for whatever a pipeline call raised.

    Raises:
        ModelError: It was one, or it means that the device is broken.
    """
    if isinstance(caught, RenderError):
        return type(caught)(*caught.args)
    if isinstance(caught, ModelError):
        raise caught
    lines = [line.strip() for line in str(caught).splitlines() if line.strip()]
    reason = f"{type(caught).__name__}: {lines[0] if lines else 'no message'}"[:REASON_LENGTH]
    if isinstance(caught, torch.OutOfMemoryError | MemoryError):
        return OutOfMemory(reason)
    if isinstance(caught, RuntimeError):
        text = str(caught).lower()
        if says_out_of_memory(text):
            return OutOfMemory(reason)
        if any(words in text for words in BROKEN_DEVICE):
            raise ModelError(f"this worker's device failed, restart the worker: {reason}")
    return RenderError(reason)


def settings_fault(
    caught: Exception, *, scheduler: object, settings: str, stepped: bool
) -> UnsupportedJob | None:
    """The error as one that no retry would change, if the job's settings are to blame.

    Pipelines look at settings in plain Python before the first denoising step, schedulers at every
    step: what they raise there, of whatever class, they raise on every worker. What a model raises
    may be the device's.

    Args:
        scheduler: The one in use.
        settings: What the job wants of it, for people.
        stepped: A denoising step is over.
    """
    if isinstance(caught, MACHINES):
        return None
    actors = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(caught.__traceback__)]
    if any(isinstance(actor, torch.nn.Module) for actor in actors):
        return None
    reason = str(translate(caught))
    if any(actor is scheduler for actor in actors):
        return UnsupportedJob(
            f"scheduler {type(scheduler).__name__!r} fails with {settings} ({reason}): "
            "change that, or use another scheduler"
        )
    return None if stepped else UnsupportedJob(reason)
