"""Paths in a sweep made absolute, wherever in its values they stand: models and input files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from producer.model_folder import absolute_model
from shared.each_value import Change, change_values
from shared.fields import FIELDS, INPUT_KEY


def absolute_models(values: Mapping[str, object], folder: Path) -> dict[str, object]:
    """The values with every path absolute, those in zip and rows too.

    Models are as `absolute_model` reads them; inputs are paths unless they are keys of the
    bucket's.

    Args:
        folder: What a relative path starts from: the sweep file's, whatever file has the path.
    """

    def model(value: object) -> object:
        return absolute_model(value, folder) if isinstance(value, str) else value

    def path(value: object) -> object:
        return absolute_input(value, folder) if isinstance(value, str) else value

    readers: dict[str, Change] = {"model": model}
    readers |= {name: path for name, field in FIELDS.items() if field.kind == "input"}
    return change_values(values, readers)


def absolute_input(path: str, folder: Path) -> str:
    """The path of an input file as every process of this machine reads it; a key stays."""
    if not path or INPUT_KEY.fullmatch(path):
        return path
    return os.path.abspath(folder / os.path.expanduser(path))
