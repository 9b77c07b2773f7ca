"""Attention slicing: diffusers' own settings, and ``adaptive``, which slices only what gains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch

from shared.errors import InvalidSettings

SETTINGS = ("adaptive", "auto", "max", "off")
"""Words that ``set_slicing`` takes beside a whole number."""

UNFUSED = ("AttnProcessor", "AttnAddedKVProcessor")
"""Processors that hold the whole attention matrix; every other one works in tiles already."""


def parse_slicing(text: str) -> str | int:
    """A ``--attention-slicing`` value: one of SETTINGS, or a slice size of at least 1.

    Raises:
        InvalidSettings: It is neither.
    """
    if text in SETTINGS:
        return text
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise InvalidSettings(
        f"attention slicing {text!r}: use adaptive, auto, max, off or a whole number from 1"
    )


def set_slicing(pipeline: Any, setting: str | int) -> None:
    """Apply a slicing setting to every model of a pipeline that can slice.

    ``auto``, ``max`` and numbers are ``pipeline.enable_attention_slicing``'s, which replaces fused
    attention (SDPA) as well: measured slower and no smaller (docs/performance.md). ``adaptive``
    halves the unfused layers and leaves the fused ones alone.

    Raises:
        InvalidSettings: The slice size does not suit this model.
    """
    if setting == "adaptive":
        for layer in _layers(pipeline):
            if type(layer.processor).__name__ in UNFUSED:
                layer.set_attention_slice(max(1, layer.sliceable_head_dim // 2))
        return
    if setting == "off":
        pipeline.disable_attention_slicing()
        return
    try:
        pipeline.enable_attention_slicing(setting)
    except ValueError as error:
        smallest = min(layer.sliceable_head_dim for layer in _layers(pipeline))
        raise InvalidSettings(
            f"attention slicing {setting!r} is more than this model's {smallest} attention heads: "
            f"use 1 to {smallest}, auto, max, off or adaptive"
        ) from error


def attention_in_force(pipeline: Any) -> str:
    """What computes attention now, for logs and receipts: ``"AttnProcessor2_0 x 8"``."""
    kinds = processors_in_force(pipeline)
    return ", ".join(f"{name} x {count}" for name, count in sorted(kinds.items()))


def processors_in_force(pipeline: Any) -> Counter[str]:
    """Class names of the installed processors, and how many layers have each."""
    return Counter(type(layer.processor).__name__ for layer in _layers(pipeline))


def _layers(pipeline: Any) -> Iterator[Any]:
    """Attention layers of the models that diffusers would slice."""
    for model in pipeline.components.values():
        if isinstance(model, torch.nn.Module) and hasattr(model, "set_attention_slice"):
            for module in model.modules():
                if hasattr(module, "sliceable_head_dim") and hasattr(module, "processor"):
                    yield module
