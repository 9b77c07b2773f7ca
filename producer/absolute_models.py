"""Models of a whole sweep made absolute, wherever in its values they stand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from producer.model_folder import absolute_model, absolute_part
from shared.canonical import canonical_json
from shared.errors import InvalidSweep
from shared.fields import check_value
from shared.sources import Fault, RowSource, ValueSource


def absolute_models(values: Mapping[str, object], folder: Path) -> dict[str, object]:
    """The values with every model, VAE and LoRA by its absolute path, in zip and rows too.

    Args:
        folder: What a relative path starts from: the sweep file's, whatever file has the path.
    """
    return {
        name: _value(name, value, folder)
        if name in READERS
        else _groups(value, folder)
        if name == "zip"
        else _rows(value, folder)
        if name == "rows"
        else value
        for name, value in values.items()
    }


def _value(name: str, value: object, folder: Path) -> object:
    """One value, a list of them, ``{fixed: ...}``, or a source of values."""
    if isinstance(value, list | tuple):
        # an axis: its items are values, of which one of LoRAs may be a list
        return [
            READERS[name](item, folder)
            if isinstance(item, list | tuple)
            else _value(name, item, folder)
            for item in value
        ]
    if isinstance(value, Mapping) and set(value) == {"fixed"}:
        return {"fixed": READERS[name](value["fixed"], folder)}
    if isinstance(value, ValueSource):
        return _AbsoluteValues(name, value, folder, value.what, value.unit)
    return READERS[name](value, folder)


def _model(value: object, folder: Path) -> object:
    return absolute_model(value, folder) if isinstance(value, str) else value


def _vae(value: object, folder: Path) -> object:
    return absolute_part(value, folder) if isinstance(value, str) else value


def _loras(value: object, folder: Path) -> object:
    """Their text with every name absolute; what is none is refused where the sweep is made."""
    try:
        text = check_value("loras", value)
    except InvalidSweep:
        return value
    items = json.loads(text) if isinstance(text, str) else []
    named = [{**item, "name": absolute_part(item["name"], folder)} for item in items]
    return canonical_json(named) if named else None


READERS = {"model": _model, "vae": _vae, "loras": _loras}
"""Fields that name something on this machine or on the hub."""


def _groups(value: object, folder: Path) -> object:
    """Fields that vary together, or a list of such."""
    if isinstance(value, list | tuple):
        return [_groups(item, folder) for item in value]
    if isinstance(value, Mapping):
        return {
            name: _value(name, item, folder) if name in READERS else item
            for name, item in value.items()
        }
    return value


def _rows(value: object, folder: Path) -> object:
    """Rows written out, where a list is one value, or a source of them."""
    if isinstance(value, RowSource):
        return _AbsoluteRows(value, folder, value.what)
    if not isinstance(value, list | tuple):
        return value
    return [
        {
            name: READERS[name](item, folder) if name in READERS else item
            for name, item in row.items()
        }
        if isinstance(row, Mapping)
        else row
        for row in value
    ]


@dataclass(frozen=True)
class _AbsoluteValues:
    """A source of models, VAEs or LoRAs."""

    name: str
    source: ValueSource
    folder: Path
    what: str
    unit: str

    def numbered(self) -> Iterator[tuple[int, object]]:
        for number, value in self.source.numbered():
            yield (
                number,
                value if isinstance(value, Fault) else READERS[self.name](value, self.folder),
            )


@dataclass(frozen=True)
class _AbsoluteRows:
    """A source of rows, of which columns may be models, VAEs or LoRAs."""

    source: RowSource
    folder: Path
    what: str

    def header(self) -> Sequence[str]:
        return self.source.header()

    def rows(self) -> Iterator[Sequence[object] | Fault]:
        readers = [READERS.get(name) for name in self.header()]
        if not any(readers):
            yield from self.source.rows()
            return
        for cells in self.source.rows():
            if isinstance(cells, Fault):
                yield cells
            else:
                yield [
                    cell if read is None else read(cell, self.folder)
                    for cell, read in zip(cells, readers, strict=True)
                ]
