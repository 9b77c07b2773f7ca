"""Files and templates in a sweep: marked where values may stand, read when the sweep is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from producer.source_files import open_rows, open_values
from producer.templates import Template
from shared.errors import InvalidSweep
from shared.fields import FIELDS
from shared.mistakes import shown

WILDCARDS = "wildcards"
"""The directive that names the folder of a sweep's wildcard files."""
FILE_MARK = frozenset({"file", "column"})
TEMPLATE_MARK = frozenset({"template"})


def with_sources(values: Mapping[str, object], folder: Path) -> dict[str, object]:
    """The values with every mark made a source; nothing is read yet.

    Args:
        folder: What paths are relative to.

    Raises:
        InvalidSweep: A mark can't be meant so.
    """
    wildcards = _wildcards(values.get(WILDCARDS), folder)
    made: dict[str, object] = {}
    for name, value in values.items():
        if name in FIELDS:
            made[name] = _marked(name, value, folder, wildcards)
        elif name == "zip":
            groups = value if isinstance(value, list | tuple) else [value]
            made[name] = [_group(group, folder, wildcards) for group in groups]
        elif name == "rows" and isinstance(value, str):
            made[name] = open_rows(folder, value)
        elif name != WILDCARDS:
            made[name] = value
    return made


def _group(group: object, folder: Path, wildcards: Path | None) -> object:
    if not isinstance(group, Mapping):
        return group
    return {
        name: _marked(name, value, folder, wildcards) if name in FIELDS else value
        for name, value in group.items()
    }


def _marked(name: str, value: object, folder: Path, wildcards: Path | None) -> object:
    if isinstance(value, list | tuple):
        return [_mark(name, item, folder, wildcards) for item in value]
    return _mark(name, value, folder, wildcards)


def _mark(name: str, item: object, folder: Path, wildcards: Path | None) -> object:
    if not isinstance(item, Mapping):
        return item
    if "file" in item and set(item) <= FILE_MARK:
        return open_values(
            folder, _text(name, item, "file"), name, _text(name, item, "column", needed=False)
        )
    if set(item) == TEMPLATE_MARK:
        if FIELDS[name].kind != "text":
            raise InvalidSweep(f"{name} takes no template: write its values", field=name)
        return Template(_text(name, item, "template"), wildcards)
    return item


def _text(name: str, item: Mapping[str, object], key: str, *, needed: bool = True) -> str:
    value = item.get(key)
    if value is None and not needed:
        return name
    if not isinstance(value, str) or not value:
        raise InvalidSweep(
            f"{name} has {{{key}: {shown(value)}}}: write a text", field=name, value=value
        )
    return value


def _wildcards(value: object, folder: Path) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str) or not (folder / value).is_dir():
        raise InvalidSweep(
            f"wildcards {shown(value)} is not a folder: name the one that has the wildcard files",
            field=WILDCARDS,
            value=value,
        )
    return folder / value
