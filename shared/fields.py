"""The fields of a job: type, range, default, and what each decides.

This table is the single source of the sweep language: validation, the JSON Schema, the
command line's options and the docs are all read from it.
"""

from __future__ import annotations

import difflib
import math
import re
import reprlib
from dataclasses import dataclass
from typing import Literal, TypeVar

from shared.errors import InvalidSweep
from shared.numbers import finite_number, whole_number
from shared.schedulers import SCHEDULERS
from shared.structured import STRUCTURED, Unfit, structured_text

Number = TypeVar("Number", int, float)
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
SHOWN_CHARS = 60
"""How much of a bad value an error message repeats."""
SHOWN_BITS = 160
"""Integers beyond it are told by their size: CPython refuses to print the very long ones."""
NEAR = 0.4
"""difflib's ratio from which a name is a likely slip: DDIM is 0.47 of DDIMScheduler."""
SHOWN_NAMES = 30
"""How many right names an error message lists at most."""


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


def nearest(name: str, known: list[str]) -> str:
    """A hint with the nearest right name, or the list of them where none is near."""
    slip = name[:SHOWN_CHARS].lower()
    rights = {right.lower(): right for right in known}
    close = difflib.get_close_matches(slip, rights, n=1, cutoff=NEAR)
    holding = [right for right in rights if slip in right] if len(slip) > 2 else []
    if holding:  # "steps" is meant for num_inference_steps, though it is spelt more like "seed"
        close = [min(holding, key=lambda right: (*_depth(slip, right), len(right)))]
    if close:
        return f"did you mean {rights[close[0]]!r}?"
    listed = ", ".join(known[:SHOWN_NAMES])
    return f"it can be {listed}{', ...' if len(known) > SHOWN_NAMES else ''}"


def _depth(slip: str, right: str) -> tuple[bool, int]:
    """Where a slip stands in a right name: as a word of it comes before inside one."""
    return slip not in right.split("_"), right.index(slip)


def shown(value: object) -> str:
    """The value as an error message repeats it: quoted, cut, one line, whatever it is."""
    text = _BRIEF.repr(value).replace("\n", " ")
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."


class _Brief(reprlib.Repr):
    """A repr whose cost is bounded: of nested, endless and hostile values too."""

    def repr_str(self, x: str, level: int) -> str:
        return repr(x[:SHOWN_CHARS])

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() <= SHOWN_BITS:
            return repr(x)
        return f"a whole number of about {int(x.bit_length() * math.log10(2)) + 1} digits"


_BRIEF = _Brief()


def check_value(name: str, value: object) -> Value:
    """Validate one value of one field; text is read by the field's type.

    Args:
        name: A key of FIELDS.
        value: From YAML, JSON, the command line or Python.

    Returns:
        The value in its field's type: ``"5"``, ``5`` and ``5.0`` are one number.

    Raises:
        InvalidSweep: Names field, value and remedy.
    """
    field = FIELDS[name]
    if value is None:
        if field.nullable:
            return None
        raise InvalidSweep(f"{name} is null: give it {_wanted(field)}", field=name)
    if field.kind == "flag":
        return _flag(field, value)
    if field.structured:
        return _structured(field, value)
    if field.kind in ("integer", "number"):
        number = whole_number(value) if field.kind == "integer" else finite_number(value)
        if number is None:
            raise _bad(field, value)
        return _in_range(field, number)
    if field.kind == "text" and finite_number(value) is not None:
        value = str(value)
    if not isinstance(value, str):
        raise _bad(field, value)
    return _text(field, value)


def _flag(field: Field, value: object) -> Value:
    """True, or None for false: a flag that is down is as if nothing were said."""
    said = value.strip().lower() if isinstance(value, str) else value
    if said is True or said == "true":
        return True
    if said is False or said == "false":
        return None
    raise _bad(field, value)


def check_whole(name: str, place: str) -> None:
    """Refuse a field of the whole sweep where values vary.

    Args:
        place: Where it stands, after "in".

    Raises:
        InvalidSweep: It is such a field.
    """
    if FIELDS[name].whole:
        raise InvalidSweep(
            f"{name} is one value for the whole sweep, and can't vary in {place}: write it once, "
            f"as {name}: true, or leave it out",
            field=name,
        )


def _structured(field: Field, value: object) -> Value:
    try:
        text = structured_text(field.kind, value)
    except Unfit as exc:
        raise InvalidSweep(
            f"{field.name} {shown(value)} {exc}", field=field.name, value=value
        ) from exc
    return text


def _text(field: Field, value: str) -> str:
    name = field.name
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidSweep(
            f"{name} {shown(value)} has a lone surrogate: write it as valid Unicode text",
            field=name,
            value=value,
        ) from None
    if size > MAX_TEXT_BYTES:
        raise InvalidSweep(
            f"{name} {shown(value)} is {size} bytes long: at most {MAX_TEXT_BYTES} are allowed",
            field=name,
            value=value,
        )
    if "\0" in value:
        raise InvalidSweep(
            f"{name} {shown(value)} has a NUL character: take it out", field=name, value=value
        )
    if field.kind == "scheduler" and value not in SCHEDULERS:
        raise InvalidSweep(
            f"scheduler {shown(value)} is not known: {nearest(value, sorted(SCHEDULERS))}",
            field=name,
            value=value,
        )
    if field.kind == "input" and not INPUT_KEY.fullmatch(value):
        raise InvalidSweep(
            f"{name} {shown(value)} is not in the bucket's inputs/: give a file's path, or the key "
            f"of one that was uploaded, 'inputs/' and 64 hex digits",
            field=name,
            value=value,
        )
    if field.kind == "device" and value not in DEVICES:
        raise InvalidSweep(
            f"{name} {shown(value)} is not known: write cpu or cuda", field=name, value=value
        )
    if field.kind == "switch" and value not in SWITCH:
        raise InvalidSweep(
            f"{name} {shown(value)} is not known: write on, off or null", field=name, value=value
        )
    if field.decides == "lane" and not value.strip():
        raise InvalidSweep(f"{name} is empty: give it {_wanted(field)}", field=name, value=value)
    return value


def _in_range(field: Field, value: Number) -> Number:
    if (field.minimum is not None and value < field.minimum) or (
        field.maximum is not None and value > field.maximum
    ):
        raise _bad(field, value)
    if field.multiple_of > 1 and value % field.multiple_of:
        below = int(value) // field.multiple_of * field.multiple_of
        near = [str(n) for n in (below, below + field.multiple_of) if n >= (field.minimum or 0)]
        raise InvalidSweep(
            f"{field.name} {value} is not a multiple of {field.multiple_of}: "
            f"write {' or '.join(near)}",
            field=field.name,
            value=value,
        )
    return value


def _wanted(field: Field) -> str:
    if field.kind in ("integer", "number"):
        noun = "a whole number" if field.kind == "integer" else "a number"
        return f"{noun} from {field.minimum:g} to {_bound(field.maximum)}"
    return {
        "text": "a text",
        "scheduler": "a diffusers scheduler's class name",
        "input": "a file's path",
        "switch": "on or off",
        "flag": "true or false",
    }.get(field.kind, "cpu or cuda")


def _bound(maximum: float | None) -> str:
    return "2**63-1" if maximum is not None and maximum > 2**60 else f"{maximum:g}"


def _bad(field: Field, value: object) -> InvalidSweep:
    return InvalidSweep(
        f"{field.name} {shown(value)} is not {_wanted(field)}", field=field.name, value=value
    )
