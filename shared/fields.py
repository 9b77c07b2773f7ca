"""The fields of a job: type, range, default, and what each decides.

This table is the single source of the sweep language: validation (field_values.py), the JSON
Schema, the command line's options and the docs are all read from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from shared.structured import STRUCTURED

Value = str | int | float | None
"""One value of one field."""

DEMO_MODEL = "demo"
"""The ``model`` that stands for Seedbed's own small checkpoint, on every machine."""
INPUT_KEY = re.compile(r"inputs/[0-9a-f]{64}")
"""Where the bucket keeps an input, under the pool's prefix: named by its content's SHA-256."""
DEVICES = ("cpu", "cuda")
"""Where noise may be drawn."""
SWITCH = ("on", "off")
MAX_TEXT_BYTES = 16_384
"""Bounds a prompt: 77 tokens are a few hundred bytes, T5's 512 tokens a few thousand."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a job.

    Attributes:
        kind: How its text is read.
        decides: ``lane`` (weights and shape), ``recipe`` (how it is sampled), ``guidance``
            (its being above 1 is part of the recipe, its size is not), ``kind`` (its being
            given is part of the lane, what it is is not), ``given`` (the same of the recipe),
            or ``row`` (free to vary inside a batch).
        default: What absence means, fixed when the sweep is submitted.
        minimum: Smallest value allowed.
        maximum: Largest value allowed.
        multiple_of: For sizes in pixels.
        nullable: Whether ``null`` is a value of its own.
        help: One line for ``--help`` and the docs.
        added: Came after the first version: manifests and digests leave it out where it is null,
            so that it renames no sweep and no image that is without it.
        whole: One value for the whole sweep: it is no axis, nor part of one.
    """

    name: str
    kind: Literal[
        "text", "integer", "number", "scheduler", "device", "switch", "flag",
        "settings", "timesteps", "sigmas", "loras", "input",
    ]  # fmt: skip
    decides: Literal["lane", "recipe", "guidance", "kind", "given", "row"]
    help: str
    default: Value = None
    minimum: float | None = None
    maximum: float | None = None
    multiple_of: int = 1
    nullable: bool = False
    added: bool = False
    whole: bool = False

    @property
    def structured(self) -> bool:
        """Whether a value is a mapping or a list, see `shared.structured`."""
        return self.kind in STRUCTURED

    @property
    def option(self) -> str:
        """Its command-line option."""
        return "--" + self.name.replace("_", "-")


def _added(
    name: str,
    kind: Literal["text", "switch", "settings", "timesteps", "sigmas", "loras"],
    decides: Literal["lane", "recipe"],
    text: str,
) -> Field:
    return Field(name=name, kind=kind, decides=decides, help=text, nullable=True, added=True)


def _table(*fields: Field) -> dict[str, Field]:
    return {field.name: field for field in fields}


FIELDS: dict[str, Field] = _table(
    Field(name="model", kind="text", decides="lane", help="hub id, folder or .safetensors file"),
    Field(
        name="revision", kind="text", decides="lane", nullable=True, help="hub branch, tag, commit"
    ),
    Field(
        name="variant",
        kind="text",
        decides="lane",
        nullable=True,
        help="weight files' variant, such as fp16",
    ),
    _added("vae", "text", "lane", "AutoencoderKL in place of the checkpoint's: hub id or folder"),
    _added("loras", "loras", "lane", "[{name: hub id, folder or file, weight: 0.8}, ...]"),
    _added("safety_checker", "switch", "recipe", "on or off; null is as the checkpoint has it"),
    Field(
        name="height",
        kind="integer",
        decides="lane",
        nullable=True,
        minimum=8,
        maximum=8192,
        multiple_of=8,
        help="pixels; null is the checkpoint's own",
    ),
    Field(
        name="width",
        kind="integer",
        decides="lane",
        nullable=True,
        minimum=8,
        maximum=8192,
        multiple_of=8,
        help="pixels; null is the checkpoint's own",
    ),
    Field(
        name="scheduler",
        kind="scheduler",
        decides="recipe",
        nullable=True,
        help="diffusers class; null is the checkpoint's own",
    ),
    _added("scheduler_config", "settings", "recipe", "what to change of the scheduler's settings"),
    Field(
        name="num_inference_steps",
        kind="integer",
        decides="recipe",
        default=50,
        minimum=1,
        maximum=1000,
        help="denoising steps",
    ),
    _added("timesteps", "timesteps", "recipe", "falling; in place of num_inference_steps"),
    _added("sigmas", "sigmas", "recipe", "falling noise levels; in place of num_inference_steps"),
    Field(
        name="guidance_scale",
        kind="number",
        decides="guidance",
        default=7.5,
        minimum=0,
        maximum=1000,
        help="classifier-free guidance; 1 or less is off",
    ),
    Field(
        name="guidance_rescale",
        kind="number",
        decides="recipe",
        default=0.0,
        minimum=0,
        maximum=1,
        help="0 to 1, against overexposure",
    ),
    Field(
        name="eta",
        kind="number",
        decides="recipe",
        default=0.0,
        minimum=0,
        maximum=1,
        help="0 to 1, DDIM's stochasticity",
    ),
    Field(name="prompt", kind="text", decides="row", help="literal text"),
    Field(
        name="negative_prompt",
        kind="text",
        decides="row",
        nullable=True,
        help="literal text; null is none",
    ),
    Field(
        name="clip_skip",
        kind="integer",
        decides="recipe",
        nullable=True,
        added=True,
        minimum=1,
        maximum=24,
        help="last layers of the text encoder that are left out; null is none",
    ),
    Field(
        name="seed",
        kind="integer",
        decides="row",
        default=0,
        minimum=0,
        maximum=2**63 - 1,
        help="of the job's own generator",
    ),
    Field(
        name="generator_device",
        kind="device",
        decides="recipe",
        default="cpu",
        help="where noise is drawn: cpu or cuda",
    ),
    Field(
        name="init_image",
        kind="input",
        decides="kind",
        nullable=True,
        added=True,
        help="image file to start from; null is noise alone",
    ),
    Field(
        name="mask_image",
        kind="input",
        decides="kind",
        nullable=True,
        added=True,
        help="image file, white where the init image is painted anew",
    ),
    Field(
        name="strength",
        kind="number",
        decides="recipe",
        nullable=True,
        added=True,
        minimum=0,
        maximum=1,
        help="how far from the init image; null is 0.8, and 1 with a mask",
    ),
    Field(
        name="latents",
        kind="input",
        decides="given",
        nullable=True,
        added=True,
        help="safetensors file of starting noise; null is the seed's own",
    ),
    Field(
        name="reproducible",
        kind="flag",
        decides="recipe",
        nullable=True,
        added=True,
        whole=True,
        help="equal to the bit in whatever company and order; null is false",
    ),
)

REQUIRED = ("model", "prompt")
"""Fields without a default."""
