"""Which folder a model's name means, if any, and whether it looks like a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

from shared.errors import InvalidSweep
from shared.fields import DEMO_MODEL

INDEX = "model_index.json"
"""What diffusers' ``save_pretrained`` always writes."""


def absolute_model(model: str, folder: Path | None = None) -> str:
    """The name as every process of this machine reads it, wherever it runs.

    Done once, where names come in: on the command line and in sweep files. A path is made
    absolute, links are kept; so is the plain name of a checkpoint in ``folder``, which would win
    over the hub's. ``demo`` and hub ids stay as they are, with their ``@REVISION``.

    Args:
        folder: What a relative path starts from; None is the current one.
    """
    start = folder or Path.cwd()
    if model in ("", DEMO_MODEL):
        return model
    if not _is_path(model) and not (start / model / INDEX).is_file():
        return model
    return os.path.abspath(start / os.path.expanduser(model))


def is_local(model: str) -> bool:
    """Whether the name means a path here, not a checkpoint on the hub."""
    return model != DEMO_MODEL and (_is_path(model) or Path(model).exists())


def _is_path(model: str) -> bool:
    """Whether it is written as a path, which no hub id is; a revision may have slashes."""
    name = model.partition("@")[0]
    return (
        model.startswith(("/", "./", "../", "~"))
        or model in (".", "..")
        or name.endswith("/")
        or name.count("/") > 1
    )


def check_model_folder(model: str) -> None:
    """Refuse a local path that can't be a checkpoint, before anything is started for it.

    Raises:
        InvalidSweep: It is not there, a file, or a folder without a diffusers index.
    """
    if not is_local(model):
        return
    path = Path(model)
    if not path.exists():
        problem = "does not exist"
    elif not path.is_dir():
        problem = "is a file"
    elif not (path / INDEX).is_file():
        problem = f"has no {INDEX}"
    else:
        return
    raise InvalidSweep(
        f"model {model!r} {problem}: name a hub id, or a folder that diffusers' "
        f"save_pretrained has written",
        field="model",
        value=model,
    )
