"""A checkpoint in one ``.safetensors`` file, as most others pass them on.

Such a file has weights and no configuration. The latter is that of the same kind of model: of the
folder that the worker is told (``--single-file-config``), else of the repository that diffusers
knows for such files, out of the hub's cache or fetched.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from shared.errors import ModelError
from worker.locating import ModelSource, first_line

SUFFIX = ".safetensors"


def is_single_file(folder: Path) -> bool:
    """Whether a located model is one file."""
    return folder.is_file() and folder.suffix == SUFFIX


def load_single_file(source: ModelSource, file: Path, folder: Path, dtype: torch.dtype) -> Any:
    """The pipeline of a file.

    Args:
        folder: Whose configuration it takes, from `config_folder`.

    Raises:
        ModelError: It can't be loaded.
    """
    try:
        return _pipeline_class(folder).from_single_file(
            str(file), config=str(folder), dtype=dtype, local_files_only=True
        )
    except Exception as error:
        raise ModelError(
            f"model {source.model!r} can't be loaded with the configuration of {str(folder)!r}: "
            f"{first_line(error)}; name a folder of the same kind of model with "
            "--single-file-config"
        ) from error


def config_folder(source: ModelSource, file: Path) -> Path:
    """A diffusers folder whose configuration suits the file.

    Raises:
        ModelError: There is none here, and none can be fetched.
    """
    if source.config is not None:
        folder = Path(source.config).expanduser()
        if not (folder / "model_index.json").is_file():
            raise ModelError(
                f"--single-file-config {source.config!r} is not a model directory (no "
                "model_index.json in it): name a folder made by save_pretrained"
            )
        return folder
    repository = _known_repository(source, file)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=["*.json", "*.txt", "*.model"]))
    except Exception as error:
        raise ModelError(
            f"model {source.model!r} is a single file without configuration, and that of "
            f"{repository!r} is not in the local cache and could not be fetched: connect once, or "
            "name a diffusers folder of the same kind of model with --single-file-config"
        ) from error


def _known_repository(source: ModelSource, file: Path) -> str:
    """Which repository diffusers takes such a file for, told by its tensors' names."""
    utils: Any = import_module("diffusers.loaders.single_file_utils")
    try:
        checkpoint = utils.load_single_file_checkpoint(str(file), local_files_only=True)
        return str(utils.fetch_diffusers_config(checkpoint)["pretrained_model_name_or_path"])
    except Exception as error:
        raise ModelError(
            f"model {source.model!r} can't be read as a checkpoint: {first_line(error)}; "
            "mend or replace the file"
        ) from error


def _pipeline_class(folder: Path) -> Any:
    """The class that the configuration names."""
    diffusers: Any = import_module("diffusers")
    index = diffusers.DiffusionPipeline.load_config(folder, local_files_only=True)
    return getattr(diffusers, index["_class_name"])
