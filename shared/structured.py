"""Values with an inside (a mapping, a list of numbers, LoRAs), as one canonical JSON text each.

A job is a flat, hashable record, and its manifest, index and pictures hold flat values. So what a
sweep's author writes as a mapping or a list becomes its canonical JSON where it comes in, is that
text everywhere after, and is parsed by who acts on it: docs/decisions/structured-values.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from shared.canonical import canonical_json
from shared.numbers import NUMBER, finite_number, whole_number

STRUCTURED = ("settings", "timesteps", "sigmas", "loras")
"""Kinds of field whose values are such texts."""
MAX_SETTINGS = 32
"""Overrides of one scheduler; the longest `__init__` of diffusers' has about thirty."""
MAX_SETTING_CHARS = 200
"""Of a name or a text in them; theirs are words such as ``sde-dpmsolver++``."""
MAX_SETTING = 100_000
"""Either way, of a number in them: some are the length of a table, which a worker must hold."""
MAX_STEPS = 1001
"""Entries of a list of timesteps or sigmas: a thousand steps, and the last sigma."""
MAX_TIMESTEP = 1000
"""Models are trained on a thousand timesteps."""
MAX_SIGMA = 10_000
"""Noise levels end at about 15 with Stable Diffusion, at 80 or 157 elsewhere."""
MAX_LORAS = 8
"""Each slows the model down; more are merged into a checkpoint instead."""
MAX_NAME_CHARS = 1024
"""Of a LoRA's hub id or path."""
MAX_LORA_WEIGHT = 100
"""Either way; beyond 2 images usually fall apart."""


class Unfit(ValueError):
    """A value that can't be meant: the message goes on after the field and the value."""


def structured_text(kind: str, value: object) -> str | None:
    """The canonical JSON of one value, or None for one that says nothing (``{}``, ``null``).

    Args:
        kind: One of STRUCTURED.
        value: A mapping, a list, or text that says one: JSON or its kind's short form.

    Raises:
        Unfit: It is not one of its kind.
    """
    if isinstance(value, str):
        value = _from_text(kind, value)
    read = _READERS[kind](value) if value is not None else None
    return canonical_json(read) if read else None


def parsed(text: str | None) -> object:
    """What a canonical text says; None for None."""
    return None if text is None else json.loads(text)


def listed(text: str) -> list[float]:
    """The numbers of a text of timesteps or sigmas."""
    numbers: list[float] = json.loads(text)
    return numbers


def lora_weights(text: str | None) -> dict[str, float]:
    """Each LoRA's weight by its name, in the order of names; none for None."""
    return {item["name"]: item["weight"] for item in json.loads(text or "[]")}


def _from_text(kind: str, text: str) -> object:
    """JSON, or a command line's short form: ``a=1,b=true``, ``14.6,3.2,0``, a LoRA's name."""
    bare = text.strip()
    if bare == "null" or not bare:
        return None
    if bare[0] in "{[":
        try:
            return json.loads(bare, object_pairs_hook=_members, parse_constant=_refuse)
        except (ValueError, RecursionError) as exc:
            raise Unfit(f"is not JSON ({exc})") from exc
    if kind == "loras":
        return {"name": bare}
    parts = [part.strip() for part in bare.split(",")]
    if kind != "settings":
        # one number alone is an item of a list that was meant as one value
        return parts if len(parts) > 1 else bare
    if not all("=" in part for part in parts):
        raise Unfit("is not a mapping of settings: write name=value,name=value")
    return _members(
        [
            (name.strip(), value.strip())
            for name, _, value in (part.partition("=") for part in parts)
        ]
    )


def _members(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    members: dict[str, object] = {}
    for name, value in pairs:
        if name in members:
            raise Unfit(f"has {name[:MAX_SETTING_CHARS]!r} twice: keep one")
        members[name] = value
    return members


def _refuse(token: str) -> object:
    raise ValueError(f"{token} is no number")


def _settings(value: object) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise Unfit("is not a mapping of settings: write {use_karras_sigmas: true}")
    if len(value) > MAX_SETTINGS:
        raise Unfit(f"has {len(value):,} settings: at most {MAX_SETTINGS} are allowed")
    return {_setting_name(name): _setting(str(name), item) for name, item in value.items()}


def _setting_name(name: object) -> str:
    if not isinstance(name, str) or not name.isidentifier() or len(name) > MAX_SETTING_CHARS:
        raise Unfit(f"has {str(name)[:MAX_SETTING_CHARS]!r}, which is no setting's name")
    return name


def _setting(name: str, value: object) -> str | bool | int | float | None:
    """A scalar; what text says is read, since YAML and command lines hand over everything so."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value in ("true", "false"):
            return value == "true"
        if value == "null":
            return None
        if not NUMBER.fullmatch(value.strip()):
            if len(value) > MAX_SETTING_CHARS or not value.isprintable():
                raise Unfit(f"has a text for {name} that is no word of at most {MAX_SETTING_CHARS}")
            return value
    if isinstance(value, Mapping | list | tuple):
        raise Unfit(f"has {name} with a list or a mapping: values are plain")
    whole = whole_number(value)
    number = finite_number(value)
    if number is None:
        raise Unfit(f"has {name} with a number that is not finite")
    if abs(number) > MAX_SETTING:
        raise Unfit(f"has {name} with a number beyond {MAX_SETTING:,}")
    return number if whole is None else whole


def _timesteps(value: object) -> list[float]:
    return _falling(value, "timesteps", "[999, 749, 499, 249]", MAX_TIMESTEP)


def _sigmas(value: object) -> list[float]:
    return _falling(value, "sigmas", "[14.6, 3.2, 0.7, 0]", MAX_SIGMA)


def _falling(value: object, name: str, example: str, most: int) -> list[float]:
    """Numbers from high to low: noise only gets less."""
    if not isinstance(value, list | tuple):
        raise Unfit(f"is not a list of {name}: write {name}: {{fixed: {example}}}")
    if not 1 <= len(value) <= MAX_STEPS:
        raise Unfit(f"has {len(value):,} entries: 1 to {MAX_STEPS:,} are allowed")
    numbers = []
    for item in value:
        number = finite_number(item)
        if number is None or not 0 <= number <= most:
            raise Unfit(f"has {str(item)[:40]!r}, which is not a number from 0 to {most:,}")
        numbers.append(number)
    for first, second in pairwise(numbers):
        if second >= first:
            raise Unfit(f"has {second:g} after {first:g}: write them falling")
    return numbers


def _loras(value: object) -> list[dict[str, object]]:
    items = [value] if isinstance(value, Mapping) else value
    if not isinstance(items, list | tuple):
        raise Unfit("is not a list of LoRAs: write {fixed: [{name: owner/lora, weight: 0.8}]}")
    if len(items) > MAX_LORAS:
        raise Unfit(f"has {len(items):,} LoRAs: at most {MAX_LORAS} are allowed")
    found: dict[str, object] = {}
    for item in items:
        if not isinstance(item, Mapping) or not {"name"} <= set(item) <= {"name", "weight"}:
            raise Unfit("has a LoRA that is not {name: owner/lora, weight: 0.8}")
        name, weight = item["name"], finite_number(item.get("weight", 1))
        if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME_CHARS:
            raise Unfit("has a LoRA whose name is not a hub id, a folder or a file")
        if not name.isprintable():
            raise Unfit("has a LoRA whose name has characters that can't be shown")
        if weight is None or abs(weight) > MAX_LORA_WEIGHT:
            raise Unfit(f"has a weight for {name!r} that is not from -100 to {MAX_LORA_WEIGHT}")
        if name in found:
            raise Unfit(f"has {name!r} twice: keep one")
        found[name] = weight
    # sorted: sums of floats depend on their order, and the order written should not
    return [{"name": name, "weight": found[name]} for name in sorted(found)]


_READERS: dict[str, Callable[[object], object]] = {
    "settings": _settings,
    "timesteps": _timesteps,
    "sigmas": _sigmas,
    "loras": _loras,
}
