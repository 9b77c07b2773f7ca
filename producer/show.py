"""What made an image, and the command that makes it again."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import InvalidInput
from shared.field_values import check_value
from shared.fields import FIELDS, REQUIRED, Value
from shared.image_metadata import read_metadata

HUB_WEIGHTS = re.compile(r"hub:([0-9a-f]{40})(?:\+[0-9a-f]{64})?")
"""Weights that are a commit of a hub repository, perhaps with a VAE or LoRAs put in."""
HARMFUL = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories that a terminal obeys instead of showing."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where an image comes from, told by the image alone.

    Attributes:
        digest: Its identity.
        job: Every field that this version knows, valid, in the order a person asks for them.
        pin: What the worker had loaded: weights, dtype, renderer and the checkpoint's own.
        arguments: The command that makes it again, as an argument vector.
        unknown: Fields of a later version, which the command leaves out.
    """

    digest: str
    job: Mapping[str, Value]
    pin: Mapping[str, object]
    arguments: tuple[str, ...]
    unknown: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The argument vector as a line for a shell."""
        return shell_line(self.arguments)


def read_origin(image: Path | bytes) -> Origin:
    """Read what an image says of itself.

    Args:
        image: Where it is, or its bytes.

    Raises:
        InvalidInput: It is no image of Seedbed's, or its job can't be right.
    """
    record = read_metadata(image)
    name = repr(str(image)) if isinstance(image, Path) else "the image"
    job, pin = record["job"], record["pin"]
    assert isinstance(job, dict)  # both checked by read_metadata
    assert isinstance(pin, dict)
    for field in REQUIRED:
        if field not in job:
            raise InvalidInput(f"{name} has a job without {field}: Seedbed did not write it")
    names = sorted((name for name in FIELDS if name in job), key=_reading_order)
    known = {name: check_value(name, job[name]) for name in names}
    return Origin(
        digest=str(record["digest"]),
        job=known,
        pin=pin,
        arguments=run_arguments(known, weights=str(pin.get("weights", ""))),
        unknown=tuple(sorted(set(job) - set(FIELDS))),
    )


def run_arguments(job: Mapping[str, Value], *, weights: str = "") -> tuple[str, ...]:
    """The ``seedbed run`` that renders one job: every field that is not at its default.

    Args:
        weights: The pin's; those of a hub repository are named by their commit, since a branch
            moves on.
    """
    commit = HUB_WEIGHTS.fullmatch(weights)
    wanted = {**job, "revision": commit[1]} if commit else job
    arguments = ["seedbed", "run"]
    for name in sorted(wanted, key=_reading_order):
        value = wanted[name]
        if value is True:
            arguments.append(FIELDS[name].option)
        elif value is not None and (name in REQUIRED or value != FIELDS[name].default):
            text = f"{value!r}" if isinstance(value, float) else str(value)
            option = "-p" if name == "prompt" else FIELDS[name].option
            # joined where the value could be taken for an option
            joined = text.startswith("-")
            arguments += [f"{FIELDS[name].option}={text}"] if joined else [option, text]
    return tuple(arguments)


def shell_line(arguments: Sequence[str]) -> str:
    """Arguments as one command for sh, or for bash and zsh where control characters need it."""
    return " ".join(_quoted(argument) for argument in arguments)


def _quoted(text: str) -> str:
    r"""POSIX quotes; ``$'...'`` for what a terminal would obey, such as an escape sequence."""
    if not any(_harmful(char) for char in text):
        return shlex.quote(text)
    return "$'" + "".join(_escaped(char) for char in text) + "'"


def _escaped(char: str) -> str:
    if _harmful(char) or char == "\n":
        return "".join(f"\\{byte:03o}" for byte in char.encode())
    return f"\\{char}" if char in "'\\" else char


def _harmful(char: str) -> bool:
    return char != "\n" and unicodedata.category(char) in HARMFUL


def _reading_order(name: str) -> int:
    """What a person looks for first, then the table's order."""
    first = ("model", "prompt", "negative_prompt", "seed")
    return first.index(name) if name in first else len(first) + list(FIELDS).index(name)
