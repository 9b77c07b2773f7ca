"""Whether a model's name is a folder of this machine, and whether it looks like a checkpoint."""

from __future__ import annotations

from pathlib import Path

from shared.errors import InvalidSweep

DEMO = "demo"
"""The small checkpoint that Seedbed builds itself; never a folder of that name."""
INDEX = "model_index.json"
"""What diffusers' ``save_pretrained`` always writes."""


def is_local(model: str) -> bool:
    """Whether the name means a path here, not a checkpoint on the hub."""
    if model == DEMO:
        return False
    return model.startswith(("/", "./", "../", "~")) or model in (".", "..") or Path(model).exists()


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
