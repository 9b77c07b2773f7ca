"""The pipelines of one checkpoint, a class for each kind of job, all with the same components."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from shared.errors import UnsupportedJob
from shared.kinds import Kind

MAKERS: dict[Kind, str] = {
    "text-to-image": "AutoPipelineForText2Image",
    "image-to-image": "AutoPipelineForImage2Image",
    "inpainting": "AutoPipelineForInpainting",
}
"""diffusers' classes that find a pipeline's relative of another kind."""
NEEDED: dict[Kind, str] = {
    "text-to-image": "no init_image",
    "image-to-image": "an init_image",
    "inpainting": "init_image and mask_image",
}
OFFLOADING = ("_all_hooks", "_offload_gpu_id", "_offload_device")
"""Where a pipeline keeps what it needs to move its models off the GPU after a call."""


@dataclass(frozen=True, kw_only=True)
class KindPipeline:
    """One kind's pipeline.

    Attributes:
        pipeline: It.
        accepts: Parameter names of its call.
        needs: Those without a default.
    """

    pipeline: Any
    accepts: frozenset[str]
    needs: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Its class."""
        return type(self.pipeline).__name__


class KindPipelines:
    """Makes the pipeline of a kind when it is first asked for; no weights are loaded or copied.

    Attributes:
        own_kind: Of the class that the checkpoint names itself.
    """

    def __init__(self, own: Any, accepts: frozenset[str]) -> None:
        self._own = KindPipeline(pipeline=own, accepts=accepts, needs=_needs(own))
        self.own_kind = own_kind(accepts)
        self._made: dict[Kind, KindPipeline] = {self.own_kind: self._own}

    def of(self, kind: Kind) -> KindPipeline:
        """The pipeline for a kind of job.

        Raises:
            UnsupportedJob: There is none for this checkpoint.
        """
        if kind not in self._made:
            self._made[kind] = self._make(kind)
        return self._made[kind]

    def has(self, kind: Kind) -> bool:
        """Whether there is one."""
        try:
            self.of(kind)
        except UnsupportedJob:
            return False
        return True

    def _make(self, kind: Kind) -> KindPipeline:
        own = self._own.pipeline
        if _is_bound_to_its_kind(own):
            raise UnsupportedJob(
                f"this checkpoint's {self._own.name} is for {self.own_kind} only: it takes "
                f"{NEEDED[self.own_kind]}"
            )
        maker = getattr(import_module("diffusers"), MAKERS[kind])
        try:
            pipeline = maker.from_pipe(own)
        except ValueError as exc:
            raise UnsupportedJob(
                f"diffusers has no {kind} for this checkpoint's {self._own.name}: it takes "
                f"{NEEDED[self.own_kind]}"
            ) from exc
        pipeline.set_progress_bar_config(disable=True)
        for name in OFFLOADING:
            if name in vars(own):
                setattr(pipeline, name, getattr(own, name))
        accepts = frozenset(inspect.signature(pipeline.__call__).parameters)
        return KindPipeline(pipeline=pipeline, accepts=accepts, needs=_needs(pipeline))


def own_kind(accepts: frozenset[str]) -> Kind:
    """The kind of a pipeline whose call takes these parameters."""
    if "mask_image" in accepts:
        return "inpainting"
    return "image-to-image" if "image" in accepts else "text-to-image"


def is_unconditional(accepts: frozenset[str]) -> bool:
    """Whether a pipeline makes images of nothing but noise, such as DDPM's."""
    return "prompt" not in accepts and "batch_size" in accepts


def _needs(pipeline: Any) -> frozenset[str]:
    return frozenset(
        name
        for name, parameter in inspect.signature(pipeline.__call__).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    )


def _is_bound_to_its_kind(pipeline: Any) -> bool:
    """A UNet that is fed more than latents, such as a mask or a depth map, can do nothing else."""
    unet, vae = getattr(pipeline, "unet", None), getattr(pipeline, "vae", None)
    if unet is None or vae is None:
        return False
    return bool(unet.config.in_channels != vae.config.latent_channels)
