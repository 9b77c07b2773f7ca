"""Paths in a sweep made absolute, wherever in its values they stand: weights and input files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from producer.model_folder import absolute_model, absolute_part
from shared.canonical import canonical_json
from shared.each_value import Change, change_values
from shared.errors import InvalidSweep
from shared.field_values import check_value
from shared.fields import FIELDS, INPUT_KEY


def absolute_models(values: Mapping[str, object], folder: Path) -> dict[str, object]:
    """The values with every model, VAE, LoRA and input by its absolute path, in zip and rows too.

    Args:
        folder: What a relative path starts from: the sweep file's, whatever file has the path.
    """

    def model(value: object) -> object:
        return absolute_model(value, folder) if isinstance(value, str) else value

    def vae(value: object) -> object:
        return absolute_part(value, folder) if isinstance(value, str) else value

    def loras(value: object) -> object:
        return _loras(value, folder)

    def path(value: object) -> object:
        return absolute_input(value, folder) if isinstance(value, str) else value

    readers: dict[str, Change] = {"model": model, "vae": vae, "loras": loras}
    readers |= {name: path for name, field in FIELDS.items() if field.kind == "input"}
    return change_values(values, readers)


def absolute_input(path: str, folder: Path) -> str:
    """The path of an input file as every process of this machine reads it; a key stays."""
    if not path or INPUT_KEY.fullmatch(path):
        return path
    return os.path.abspath(folder / os.path.expanduser(path))


def _loras(value: object, folder: Path) -> object:
    """Their text with every name absolute; what is none is refused where the sweep is made."""
    try:
        text = check_value("loras", value)
    except InvalidSweep:
        return value
    items = json.loads(text) if isinstance(text, str) else []
    named = [{**item, "name": absolute_part(item["name"], folder)} for item in items]
    return canonical_json(named) if named else None
