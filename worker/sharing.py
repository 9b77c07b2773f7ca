"""One loaded checkpoint, shared by all sets of a VAE and LoRAs that are put into it.

Sets render one at a time, so the modules may be the same. Each set has a pipeline object of its
own, in which alone a VAE is replaced; LoRAs are PEFT's adapters, of which a batch activates those
of its set. An adapter is named by its file's content: sets with the same LoRA share that as well.
"""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch


class SharedBase:
    """A checkpoint in memory.

    Attributes:
        pipeline: As it was loaded: nothing is rendered with it. LoRAs that are put in are in its
            modules, and not active.
        fingerprint: Of the checkpoint alone, as it was when it was loaded.
    """

    def __init__(self, pipeline: Any, fingerprint: str) -> None:
        self.pipeline = pipeline
        self.fingerprint = fingerprint
        self._uses: Counter[str] = Counter()

    def another(self) -> Any:
        """A pipeline of the same modules; replacing one there leaves the others' alone."""
        return copy.copy(self.pipeline)

    def take(self, adapter: str, load: Callable[[], None]) -> None:
        """Have an adapter, loaded if no set has it yet; one that can't be leaves no trace."""
        if not self._uses[adapter]:
            try:
                load()
            except BaseException:
                self._delete(adapter)
                raise
        self._uses[adapter] += 1

    def give_back(self, adapters: Iterable[str]) -> None:
        """Take out those that no other set uses."""
        for adapter in adapters:
            self._uses[adapter] -= 1
            if self._uses[adapter] <= 0:
                del self._uses[adapter]
                self._delete(adapter)

    def _delete(self, adapter: str) -> None:
        deactivate(self.pipeline)  # PEFT would activate another in its place
        if hasattr(self.pipeline, "delete_adapters"):
            self.pipeline.delete_adapters(adapter)


def adapter_name(fingerprint: str, twins: int = 0) -> str:
    """What PEFT calls the LoRA with this content, the so many-th of a set that has it again."""
    return f"lora_{hashlib.sha256(fingerprint.encode()).hexdigest()[:24]}_{twins}"


def deactivate(pipeline: Any) -> None:
    """Let no LoRA act, of whichever set: the modules compute as they were loaded."""
    for module in pipeline.components.values():
        if isinstance(module, torch.nn.Module) and getattr(module, "peft_config", None):
            from diffusers.utils.peft_utils import set_weights_and_activate_adapters

            set_weights_and_activate_adapters(module, [], [])  # type: ignore[no-untyped-call]
