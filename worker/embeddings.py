"""Prompt embeddings, computed once per distinct text and kept while memory allows."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from shared.job import Job

CAPACITY_BYTES = 256 << 20
"""Bounds the cache: some 800 SDXL prompts, or two thousand of Stable Diffusion 1.5, in float16."""

EMBEDDING_NAMES = {
    "StableDiffusionPipeline": ("prompt_embeds",),
    "StableDiffusionXLPipeline": ("prompt_embeds", "pooled_prompt_embeds"),
    "StableDiffusion3Pipeline": ("prompt_embeds", "pooled_prompt_embeds"),
}
"""Pipelines whose ``encode_prompt`` returns (positive, negative) for each of these names.

For them a row's embeddings are the same as the pipeline computes for the job alone; every other
pipeline is given its prompts as text.
"""


@dataclass(frozen=True)
class Embedded:
    """One text as the model reads it.

    Attributes:
        tensors: By argument name of the pipeline's call, each with a first axis of length 1.
    """

    tensors: dict[str, torch.Tensor]

    @property
    def size_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())


class PromptEmbeddings:
    """Least-recently-used cache of one pipeline's prompt embeddings.

    No negative prompt and an empty one are different keys: SDXL uses zeros for the first and
    encodes the second.
    """

    def __init__(self, pipeline: Any, *, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._pipeline = pipeline
        self._names = EMBEDDING_NAMES.get(type(pipeline).__name__, ())
        self._capacity_bytes = capacity_bytes
        self._held_bytes = 0
        self._held: OrderedDict[tuple[str, str | None], Embedded] = OrderedDict()
        self.computed = 0

    @property
    def supported(self) -> bool:
        """Whether this kind of pipeline takes embeddings from here."""
        return bool(self._names)

    def rows(self, jobs: Sequence[Job], *, guided: bool) -> dict[str, torch.Tensor]:
        """Embeddings of a batch.

        Args:
            jobs: One row each.
            guided: Classifier-free guidance is on: the negative prompts' half is wanted too.

        Returns:
            Call arguments, each (rows, ...).
        """
        positive = [self._prompt(job.prompt) for job in jobs]
        halves = {name: [one.tensors[name] for one in positive] for name in self._names}
        if guided:
            negative = [
                self._negative(job.negative_prompt, one)
                for job, one in zip(jobs, positive, strict=True)
            ]
            for name in self._names:
                halves[f"negative_{name}"] = [one.tensors[name] for one in negative]
        return {name: torch.cat(tensors) for name, tensors in halves.items()}

    def _prompt(self, text: str) -> Embedded:
        key = ("prompt", text)
        if found := self._recall(key):
            return found
        encoded = self._encode(prompt=text, do_classifier_free_guidance=False)
        return self._keep(key, encoded[0::2])

    def _negative(self, text: str | None, positive: Embedded) -> Embedded:
        key = ("negative", text)
        if found := self._recall(key):
            return found
        # With the prompt's embeddings given, only the negative half is computed.
        encoded = self._encode(
            prompt=None,
            negative_prompt=text,
            do_classifier_free_guidance=True,
            **positive.tensors,
        )
        return self._keep(key, encoded[1::2])

    @torch.no_grad()
    def _encode(self, **arguments: Any) -> Sequence[torch.Tensor]:
        """(positive, negative) once for each name of ``EMBEDDING_NAMES``."""
        self.computed += 1
        encode = self._pipeline.encode_prompt
        for name in ("prompt_2", "prompt_3"):
            if name in inspect.signature(encode).parameters:
                arguments[name] = None
        device = self._pipeline._execution_device
        encoded: Sequence[torch.Tensor] = encode(
            device=device, num_images_per_prompt=1, **arguments
        )
        return encoded

    def _recall(self, key: tuple[str, str | None]) -> Embedded | None:
        if key in self._held:
            self._held.move_to_end(key)
        return self._held.get(key)

    def _keep(self, key: tuple[str, str | None], tensors: Sequence[torch.Tensor]) -> Embedded:
        embedded = Embedded(dict(zip(self._names, tensors, strict=True)))
        self._held[key] = embedded
        self._held_bytes += embedded.size_bytes
        while self._held_bytes > self._capacity_bytes and len(self._held) > 1:
            _, oldest = self._held.popitem(last=False)
            self._held_bytes -= oldest.size_bytes
        return embedded
