"""Models of a whole sweep made absolute, wherever in its values they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from producer.model_folder import absolute_model
from shared.sources import Fault, RowSource, ValueSource

MODEL = "model"


def absolute_models(values: Mapping[str, object], folder: Path) -> dict[str, object]:
    """The values with every model as `absolute_model` reads it, those in zip and rows too.

    Args:
        folder: What a relative path starts from: the sweep file's, whatever file has the path.
    """
    return {
        name: _value(value, folder)
        if name == MODEL
        else _groups(value, folder)
        if name in ("zip", "rows")
        else value
        for name, value in values.items()
    }


def _value(value: object, folder: Path) -> object:
    """One value, a list of them, ``{fixed: ...}``, or a source of values."""
    if isinstance(value, str):
        return absolute_model(value, folder)
    if isinstance(value, list | tuple):
        return [_value(item, folder) for item in value]
    if isinstance(value, Mapping) and set(value) == {"fixed"}:
        return {"fixed": _value(value["fixed"], folder)}
    if isinstance(value, ValueSource):
        return _AbsoluteValues(value, folder, value.what, value.unit)
    return value


def _groups(value: object, folder: Path) -> object:
    """Fields that vary together, a list of such, or a source of rows."""
    if isinstance(value, list | tuple):
        return [_groups(item, folder) for item in value]
    if isinstance(value, Mapping):
        return {
            name: _value(item, folder) if name == MODEL else item for name, item in value.items()
        }
    if isinstance(value, RowSource):
        return _AbsoluteRows(value, folder, value.what)
    return value


@dataclass(frozen=True)
class _AbsoluteValues:
    """A source of models."""

    source: ValueSource
    folder: Path
    what: str
    unit: str

    def numbered(self) -> Iterator[tuple[int, object]]:
        for number, value in self.source.numbered():
            yield number, value if isinstance(value, Fault) else _value(value, self.folder)


@dataclass(frozen=True)
class _AbsoluteRows:
    """A source of rows, of which a column may be models."""

    source: RowSource
    folder: Path
    what: str

    def header(self) -> Sequence[str]:
        return self.source.header()

    def rows(self) -> Iterator[Sequence[object] | Fault]:
        header = list(self.header())
        if MODEL not in header:
            yield from self.source.rows()
            return
        place = header.index(MODEL)
        for cells in self.source.rows():
            if isinstance(cells, Fault):
                yield cells
            else:
                yield [*cells[:place], _value(cells[place], self.folder), *cells[place + 1 :]]
