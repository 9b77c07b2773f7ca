"""Where a picture goes: the path of a PNG, whose name says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class PngPath(click.ParamType[Path]):
    """A path that ends in .png."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path; whether it can be written to is seen when it is."""
        path = Path(value)
        if path.suffix.lower() != ".png":
            self.fail(f"{str(path)!r} is no PNG: name a file that ends in .png", param, ctx)
        return path
