"""What in a sweep will hurt later, told from its fields alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shared.fields import FIELDS, Value
from shared.manifest import Manifest
from shared.schedulers import takes_eta

LONG_PROMPT_WORDS = 75
"""CLIP's encoder takes 77 tokens, two of them its own marks; a word is a token or more."""


def warnings_of(manifest: Manifest) -> tuple[str, ...]:
    """A sentence for each thing the author may not have meant."""
    values = {name: values_of(manifest, name) for name in (*manifest.fixed, *_varying(manifest))}
    return (
        *_guidance_warnings(values),
        *_eta_warnings(values),
        *_steps_warnings(values),
        *_size_warnings(values),
        *_prompt_warnings(values),
        *_strength_warnings(values),
    )


def values_of(manifest: Manifest, name: str) -> Sequence[Value]:
    """All values one field takes; a range stays a range, and a table's prompts in storage."""
    for axis in manifest.axes:
        if name in axis.fields:
            return axis.distinct(name)
    return (manifest.fixed[name],)


def _varying(manifest: Manifest) -> tuple[str, ...]:
    return manifest.fields_by_axis


def _guidance_warnings(values: dict[str, Sequence[Value]]) -> Iterator[str]:
    off = [value for value in values["guidance_scale"] if _number(value) <= 1]
    if not off:
        return
    shown = ", ".join(f"{_number(value):g}" for value in off)
    if len(off) > 1:
        yield (
            f"guidance_scale {shown} all switch guidance off: they make the same image "
            f"{len(off)} times; keep one"
        )
    negative = values["negative_prompt"]
    if len(negative) > 1:
        yield (
            f"negative_prompt can't act at guidance_scale {shown}: its {len(negative):,} values "
            f"make the same image there; raise guidance_scale above 1"
        )
    elif negative[0] is not None:
        yield (
            f"negative_prompt can't act at guidance_scale {shown}: raise guidance_scale above 1, "
            f"or leave it out"
        )
    if any(_number(value) > 0 for value in values["guidance_rescale"]):
        yield f"guidance_rescale can't act at guidance_scale {shown}: leave it out"


def _eta_warnings(values: dict[str, Sequence[Value]]) -> Iterator[str]:
    deaf = [value for value in values["scheduler"] if not takes_eta(_text(value))]
    eta = values["eta"]
    if deaf and len(eta) > 1:
        yield (
            f"eta can't act with {deaf[0]}: its {len(eta):,} values make the same image there; "
            f"use DDIMScheduler"
        )
    elif deaf and _number(eta[0]) > 0:
        yield f"eta can't act with {deaf[0]}: use DDIMScheduler, or leave eta out"
    elif any(value is None for value in values["scheduler"]) and any(
        _number(value) > 0 for value in eta
    ):
        yield "eta acts only if the checkpoint's own scheduler takes it: name one, DDIMScheduler"


def _steps_warnings(values: dict[str, Sequence[Value]]) -> Iterator[str]:
    lists = [name for name in ("timesteps", "sigmas") if any(values[name])]
    steps = values["num_inference_steps"]
    if lists and len(steps) > 1:
        yield (
            f"num_inference_steps can't act where {' or '.join(lists)} is given: its "
            f"{len(steps):,} values make the same image there; leave it out"
        )
    elif lists and steps[0] != FIELDS["num_inference_steps"].default:
        yield f"num_inference_steps can't act where {' or '.join(lists)} is given: leave it out"


def _size_warnings(values: dict[str, Sequence[Value]]) -> Iterator[str]:
    for name in ("height", "width", "scheduler"):
        if None in values[name] and len(values[name]) > 1:
            yield (
                f"{name} mixes null, the checkpoint's own, with given values: if they agree, the "
                f"same images are asked for twice"
            )
    height, width = values["height"], values["width"]
    if (None in height) != (None in width):
        given, own = ("width", "height") if None in height else ("height", "width")
        yield f"{given} is given but {own} is not: the checkpoint's own {own} is used"


def _strength_warnings(values: dict[str, Sequence[Value]]) -> Iterator[str]:
    strength = values["strength"]
    if None in values["init_image"] and any(value is not None for value in strength):
        same = f": its {len(strength):,} values make the same image there"
        yield f"strength can't act where init_image is null{same if len(strength) > 1 else ''}"


def _prompt_warnings(values: dict[str, Sequence[Value]]) -> Iterator[str]:
    for name in ("prompt", "negative_prompt"):
        long = sum(
            isinstance(value, str)
            and len(value) > 2 * LONG_PROMPT_WORDS
            and len(value.split()) > LONG_PROMPT_WORDS
            for value in values[name]
        )
        if long:
            yield (
                f"{long:,} {'value' if long == 1 else 'values'} of {name} "
                f"{'has' if long == 1 else 'have'} over {LONG_PROMPT_WORDS} words: "
                f"CLIP's encoder cuts what is beyond its 77 tokens"
            )


def _number(value: Value) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _text(value: Value) -> str | None:
    return value if isinstance(value, str) else None
