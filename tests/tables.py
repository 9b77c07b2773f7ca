"""Axes kept in chunks of a few rows, so that tests have many chunks of few values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from unittest.mock import patch

from shared.axis import Axis
from shared.collecting import RowCollector
from shared.fields import Value
from shared.manifest import Manifest
from shared.sweep import Sweep


def in_chunks(rows: Sequence[tuple[Value, ...]], fields: tuple[str, ...], *, size: int) -> Axis:
    """An axis of these distinct rows, in chunks of ``size``, however short it is."""
    with patch.multiple("shared.collecting", CHUNK_ROWS=size, INLINE_VALUES=1):
        collector = RowCollector(fields, "rows")
        for row in rows:
            collector.add(row)
        return collector.finish()


def with_tables(manifest: Manifest, *, size: int) -> Manifest:
    """The same sweep with every axis but ranges in chunks."""
    axes = [
        in_chunks(list(zip(*axis.columns, strict=True)), axis.fields, size=size)
        for axis in manifest.axes
    ]
    return replace(manifest, axes=tuple(axes))


def chunked_define(size: int, **values: object) -> Sweep:
    """`Sweep.define` with every axis in chunks of ``size``."""
    with patch.multiple("shared.collecting", CHUNK_ROWS=size, INLINE_VALUES=1):
        return Sweep.define(**{"model": "demo", "prompt": "a red circle", **values})
