"""Reads deploy/compose and deploy/docker as Docker does: variables filled in, images looked up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

dockerfile: Any = pytest.importorskip("dockerfile", reason="its wheels are for x86-64 Linux")
"""Docker's own parser."""

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose" / "compose.yaml"
EXAMPLE = DEPLOY / "compose" / ".env.example"
DOCKERFILE = DEPLOY / "docker" / "Dockerfile"

VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:?[-?])([^}]*))?\})")


def read_variables(path: Path) -> dict[str, str]:
    """``NAME=value`` lines of an ``.env`` file."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name: value for name, _, value in pairs}


def fill_in(value: Any, variables: Mapping[str, str]) -> Any:
    """Every ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}`` in a document's texts.

    Raises:
        KeyError: One has no value, no default, and a message.
    """

    def one(match: re.Match[str]) -> str:
        dollar, name, form, rest = match.groups()
        if dollar:
            return "$"
        given = variables.get(name, "")
        if given or not form:
            return given
        if "?" in form:
            raise KeyError(f"{name}: {rest}")
        return str(rest)

    if isinstance(value, str):
        return VARIABLE.sub(one, value)
    if isinstance(value, Mapping):
        return {name: fill_in(item, variables) for name, item in value.items()}
    if isinstance(value, Sequence):
        return [fill_in(item, variables) for item in value]
    return value


def read_compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """The compose file as Docker would run it."""
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return {key: fill_in(value, variables) for key, value in document.items() if key[:2] != "x-"}


@dataclass(frozen=True, kw_only=True)
class Image:
    """The last stage of a target, with what it inherits.

    Attributes:
        environ: Its ENV.
        healthcheck: Its HEALTHCHECK's command.
    """

    user: str
    entrypoint: list[str]
    command: list[str]
    environ: dict[str, str]
    healthcheck: list[str]
    ports: list[str]


def stages() -> dict[str, list[Any]]:
    """Commands of each stage by its name; what precedes the first is under ""."""
    found: dict[str, list[Any]] = {"": []}
    name = ""
    for command in dockerfile.parse_file(str(DOCKERFILE)):
        if command.cmd == "FROM":
            name = command.value[2]
            found[name] = []
        found[name].append(command)
    return found


def read_image(target: str) -> Image:
    """What a container of this target starts with."""
    all_stages = stages()
    chain: list[Any] = []
    at = target
    while at in all_stages:
        chain = all_stages[at] + chain
        at = all_stages[at][0].value[0]

    def last(kind: str) -> list[str]:
        return list(next(item.value for item in reversed(chain) if item.cmd == kind))

    environ: dict[str, str] = {}
    for item in chain:
        if item.cmd == "ENV":
            environ.update(zip(item.value[::2], item.value[1::2], strict=True))
    healthcheck = last("HEALTHCHECK")
    assert healthcheck[0] == "CMD"
    return Image(
        user=last("USER")[0],
        entrypoint=last("ENTRYPOINT"),
        command=last("CMD"),
        environ=environ,
        healthcheck=healthcheck[1:],
        ports=last("EXPOSE"),
    )
