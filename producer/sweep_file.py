"""A sweep file: YAML 1.2, JSON or TOML in, a validated sweep out.

Every plain scalar arrives as its own text, and `shared.field_values` reads that text by the field's
type: ``off`` is a word, ``1e-4`` a number, ``0123456`` text where a field is text.
"""

from __future__ import annotations

import json
import sys
import tomllib
import warnings
from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from producer.absolute_models import absolute_models
from producer.sources import with_sources
from shared.errors import InvalidSweep
from shared.sweep import Sweep

STDIN = "-"
MAX_FILE_BYTES = 64 * 2**20
"""Bounds what is parsed: four times the largest manifest."""
MAX_DEPTH = 8
"""Collections inside collections; a sweep needs four."""
MAX_NODES = 4_000_000
"""Values of one file with its aliases written out; a list may have a million."""
TAG = "tag:yaml.org,2002:"
PLAIN_TAGS = frozenset({"str", "int", "float", "bool", "null", "timestamp", "value", "merge"})
"""What YAML's resolver may call a scalar; all but null are taken as text."""


def load_sweep(path: str | Path, overrides: Mapping[str, object] | None = None) -> Sweep:
    """Read a sweep from a file.

    Args:
        path: YAML, JSON or TOML; ``"-"`` is standard input, YAML or JSON.
        overrides: Fields and directives that win over the file's. Those that the file names
            too keep their place among the axes, the others come last.

    Raises:
        InvalidSweep: One sentence that says where in the file and what to write instead.
    """
    return Sweep.from_mapping({**read_values(path), **(overrides or {})})


def read_values(path: str | Path) -> dict[str, object]:
    """The file's fields and directives, in its order, not yet validated.

    Paths in it are relative to the file; what they name is read when the sweep is made.

    A model that is a relative path starts from the file's folder, and is made absolute.

    Raises:
        InvalidSweep: It can't be read, or is not one mapping.
    """
    name = "standard input" if str(path) == STDIN else str(path)
    text = _decode(_read(path, name), name)
    if not text.strip():
        raise InvalidSweep(f"{name} is empty: write at least model and prompt")
    data = _parse(text, name)
    if not isinstance(data, dict):
        raise InvalidSweep(
            f"{name} has {_kind(data)} at its top: write fields, such as 'prompt: a red circle'"
        )
    folder = Path() if str(path) == STDIN else Path(path).parent
    return absolute_models(with_sources(data, folder), folder)


def _parse(text: str, name: str) -> object:
    if name.lower().endswith(".toml"):
        return _parse_toml(text, name)
    strict = name.lower().endswith(".json")
    data = _parse_json(text, name, strict=strict) if strict or text.lstrip()[0] == "{" else None
    return _parse_yaml(text, name) if data is None else data


def _read(path: str | Path, name: str) -> bytes:
    try:
        if str(path) == STDIN:
            body = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                body = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as exc:
        raise InvalidSweep(f"sweep file {name} does not exist: check its path") from exc
    except IsADirectoryError as exc:
        raise InvalidSweep(f"sweep file {name} is a folder: name a YAML file in it") from exc
    except (OSError, ValueError) as exc:
        raise InvalidSweep(f"sweep file {name!r} can't be read: {exc}") from exc
    if len(body) > MAX_FILE_BYTES:
        raise InvalidSweep(f"{name} is longer than {MAX_FILE_BYTES // 2**20} MiB: split the sweep")
    return body


def _decode(body: bytes, name: str) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = body.count(b"\n", 0, exc.start) + 1
        raise InvalidSweep(f"{name}, line {line}, is not UTF-8: save it as UTF-8 text") from exc


def _parse_toml(text: str, name: str) -> dict[str, object]:
    try:
        return tomllib.loads(text, parse_float=str)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise InvalidSweep(f"{name} is not TOML: {_sentence(exc)}") from exc


def _parse_json(text: str, name: str, *, strict: bool) -> dict[str, object] | None:
    """A JSON object with numbers as their text, or None where the text is not JSON.

    Raises:
        InvalidSweep: It is not JSON, and ``strict``.
    """

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        seen: dict[str, object] = {}
        for key, value in items:
            if key in seen:
                raise _duplicate(name, key)
            seen[key] = value
        return seen

    try:
        data: dict[str, object] = json.loads(
            text, object_pairs_hook=pairs, parse_int=str, parse_float=str, parse_constant=str
        )
    except (json.JSONDecodeError, RecursionError) as exc:
        if strict:
            raise InvalidSweep(f"{name} is not JSON: {_sentence(exc)}") from exc
        return None
    return data


def _parse_yaml(text: str, name: str) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an anchor used twice is fine in YAML 1.2
            node = YAML(typ="safe", pure=True).compose(text)
        return _Builder(name).value(node)
    except MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}," if mark else ""
        raise InvalidSweep(f"{name}{where} is not YAML: {_remedy(exc)}") from exc
    except RecursionError as exc:
        raise InvalidSweep(f"{name} is nested too deeply to be a sweep: values are plain") from exc
    except YAMLError as exc:
        raise InvalidSweep(f"{name} is not YAML: {_sentence(exc)}") from exc


class _Builder:
    """Turns YAML nodes into text, None, lists and dicts."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes = 0

    def value(self, node: Node | None, depth: int = 0) -> object:
        """What the node says; aliases are written out, within bounds."""
        if node is None:
            return None
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise _at(node, self._name, "too many values inside values: sweeps are flat")
        tag = str(node.tag)
        if isinstance(node, ScalarNode) and tag.removeprefix(TAG) in PLAIN_TAGS:
            return None if tag == f"{TAG}null" else str(node.value)
        if isinstance(node, SequenceNode) and tag == f"{TAG}seq":
            return [self.value(item, depth + 1) for item in node.value]
        if not isinstance(node, MappingNode) or tag != f"{TAG}map":
            raise _at(node, self._name, f"tag {tag.replace(TAG, '!!')} is not known: take it out")
        return self._mapping(node, depth)

    def _mapping(self, node: MappingNode, depth: int) -> dict[str, object]:
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise _at(key_node, self._name, "a key is not a plain word")
            key = str(key_node.value)
            if key in values:
                raise _duplicate(self._name, key, key_node)
            values[key] = self.value(value_node, depth + 1)
        return values


def _duplicate(name: str, key: str, node: Node | None = None) -> InvalidSweep:
    problem = f"{key} is given twice: keep one"
    if node is not None:
        return _at(node, name, problem)
    return InvalidSweep(f"{name}: {problem}", field=key)


def _at(node: Node, name: str, problem: str) -> InvalidSweep:
    mark = node.start_mark
    return InvalidSweep(f"{name}, line {mark.line + 1}, column {mark.column + 1}: {problem}")


def _remedy(exc: MarkedYAMLError) -> str:
    problem = _sentence(exc.problem or exc.context or "it breaks off")
    if "single document" in str(exc.context):
        return "a second document begins; write one sweep a file"
    if "mapping values" in problem or "cannot start any token" in problem:
        return f"{problem}; put quotes around texts with ': ' or special characters"
    return problem


def _sentence(problem: object) -> str:
    return " ".join(str(problem).split())


def _kind(data: object) -> str:
    if data is None:
        return "nothing"
    return "a list" if isinstance(data, list) else "a single value"
