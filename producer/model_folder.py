"""Which folder a model's name means, if any, and whether it looks like a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

from shared.errors import InvalidSweep
from shared.fields import DEMO_MODEL

INDEX = "model_index.json"
"""What diffusers' ``save_pretrained`` always writes."""
PART = "config.json"
"""What it writes of one model alone, such as a VAE."""


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
    if not (_is_path(model) or (start / model / INDEX).is_file() or _is_file(start / model)):
        return model
    return os.path.abspath(start / os.path.expanduser(model))


def absolute_part(name: str, folder: Path | None = None) -> str:
    """The same of a VAE or a LoRA: a plain name is a path only if there is such a thing."""
    start = folder or Path.cwd()
    local = bool(name) and ((start / name / PART).is_file() or _is_weights(start / name))
    if not (_is_path(name) or local):
        return name
    return os.path.abspath(start / os.path.expanduser(name))


def _is_weights(path: Path) -> bool:
    """A file of weights, or a folder with some."""
    return _is_file(path) or (path.is_dir() and any(path.glob("*.safetensors")))


def _is_file(path: Path) -> bool:
    return path.suffix == ".safetensors" and path.is_file()


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


def check_part(kind: str, name: str) -> None:
    """Refuse a VAE's or a LoRA's path that is not there, before anything is started for it.

    Raises:
        InvalidSweep: It is a path to nothing.
    """
    if _is_path(name) and not Path(name).exists():
        raise InvalidSweep(
            f"{kind} {name!r} does not exist: name a hub id, a folder or a .safetensors file",
            field=kind,
            value=name,
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
    elif _is_file(path):
        return
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
