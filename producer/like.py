"""Starting a sweep from the job in an image: keep the seed one liked, refine its prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shared.fields import FIELDS, Value
from shared.sources import RowSource

OF_A_MODEL = ("revision", "variant")
"""Fields that say nothing of another model."""


def refine(start: Mapping[str, Value], values: Mapping[str, object]) -> dict[str, object]:
    """The sweep's values, with those of a start for every field that they don't name.

    Args:
        start: The job in an image, or the model of ``seedbed run``.
        values: From a sweep file and options; fields in zip groups and rows count as named.
    """
    named = set(named_fields(values))
    dropped = OF_A_MODEL if "model" in named else ()
    kept = {
        name: value for name, value in start.items() if name not in named and name not in dropped
    }
    return {**kept, **values}


def named_fields(values: Mapping[str, object]) -> Iterator[str]:
    """Fields that a sweep's values speak of, wherever they do.

    Raises:
        InvalidSweep: A file of rows can't be read.
    """
    for name, value in values.items():
        if name in FIELDS:
            yield name
        elif name == "rows" and isinstance(value, RowSource):
            yield from value.header()
        elif name in ("zip", "rows"):
            for group in value if isinstance(value, list | tuple) else [value]:
                if isinstance(group, Mapping):
                    yield from (str(field) for field in group)
