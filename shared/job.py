"""One image to make: every field that decides its pixels."""

from __future__ import annotations

from dataclasses import dataclass, fields

from shared.fields import FIELDS, Value


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """All fields of one image, as diffusers' own calls name them.

    ``None`` for ``height``, ``width`` and ``scheduler`` is the checkpoint's own;
    for ``negative_prompt`` it is none at all, which is not the empty string.

    Attributes:
        model: Hub id or local directory.
        revision: Hub branch, tag or commit; None is the default branch.
        variant: Weight file variant such as ``"fp16"``.
        vae: Hub id or folder of an AutoencoderKL in place of the checkpoint's.
        loras: Canonical JSON, see `shared.structured`; names rise.
        safety_checker: ``"on"``, ``"off"``; None is as the checkpoint has it.
        prompt: Literal text.
        negative_prompt: Literal text; acts only with guidance above 1.
        seed: 0 <= seed < 2**63, for the job's own generator.
        num_inference_steps: Denoising steps, 1..1000.
        timesteps: Canonical JSON list, in their place.
        sigmas: Likewise, as noise levels.
        guidance_scale: Classifier-free guidance; 1 or less switches it off.
        guidance_rescale: 0..1, see https://arxiv.org/abs/2305.08891 section 3.4.
        height: Pixels, a multiple of 8.
        width: Pixels, a multiple of 8.
        scheduler: diffusers class name.
        scheduler_config: Canonical JSON mapping of what to change of its settings.
        clip_skip: Last layers of the text encoder that are left out.
        eta: 0..1, DDIM's stochasticity (https://arxiv.org/abs/2010.02502).
        generator_device: Where noise is drawn: ``"cpu"`` (same on every GPU) or ``"cuda"``.
        init_image: Key of the image to start from, ``inputs/<sha256>``.
        mask_image: Key of its mask, white where it is painted anew.
        strength: 0..1, how much of the denoising an init image goes through; None is
            `shared.kinds.strength_of`.
        latents: Key of a safetensors file with the starting noise.
        reproducible: True is rendered in batches of a fixed number of rows, so that company and
            order make no difference to the bit; None is as it fits best.
    """

    model: str
    revision: str | None = None
    variant: str | None = None
    vae: str | None = None
    loras: str | None = None
    safety_checker: str | None = None
    prompt: str
    negative_prompt: str | None = None
    seed: int = 0
    num_inference_steps: int = 50
    timesteps: str | None = None
    sigmas: str | None = None
    guidance_scale: float = 7.5
    guidance_rescale: float = 0.0
    height: int | None = None
    width: int | None = None
    scheduler: str | None = None
    scheduler_config: str | None = None
    eta: float = 0.0
    clip_skip: int | None = None
    generator_device: str = "cpu"
    init_image: str | None = None
    mask_image: str | None = None
    strength: float | None = None
    latents: str | None = None
    reproducible: bool | None = None

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on: two model rows a job instead of one."""
        return self.guidance_scale > 1.0

    def to_values(self) -> dict[str, Value]:
        """Every field; what ``asdict`` gives, without its copying, which a million jobs feel."""
        return {name: getattr(self, name) for name in _NAMES}

    def to_record(self) -> dict[str, Value]:
        """What its image says of it: added fields only where they say something."""
        return {
            name: value
            for name, value in self.to_values().items()
            if value is not None or not FIELDS[name].added
        }


_NAMES = tuple(item.name for item in fields(Job))
