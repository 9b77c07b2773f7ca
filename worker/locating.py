"""Find a checkpoint's folder: our own, a local one or the hub's cache; or say why there is none."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from shared.errors import ModelError
from shared.fields import DEMO_MODEL
from shared.weights import WeightsName

HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")

DEMO_FOLDER = Path(__file__).with_name("demo") / "checkpoint"
"""Seedbed's own small checkpoint, installed with the worker."""

PICKLES = frozenset({".bin", ".ckpt", ".pt", ".pth"})


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Which weights: ``model`` is ``demo``, a hub id or a local directory.

    Attributes:
        vae: Hub id or folder of what replaces the checkpoint's VAE.
        loras: Hub ids, folders or files of what is put into it.
        config: Folder whose configuration a model in a single file takes.
    """

    model: str
    revision: str | None = None
    variant: str | None = None
    vae: str | None = None
    loras: tuple[str, ...] = ()
    config: str | None = None

    @classmethod
    def of(cls, name: WeightsName) -> ModelSource:
        """What a queue's name for weights stands for."""
        return cls(
            model=name.model,
            revision=name.revision,
            variant=name.variant,
            vae=name.vae,
            loras=name.loras,
        )

    @property
    def option(self) -> str:
        """``MODEL`` or ``MODEL@REVISION``, as ``--model`` takes it."""
        return self.model if self.revision is None else f"{self.model}@{self.revision}"


def locate(source: ModelSource) -> tuple[Path, bool]:
    """The model's folder on this machine, fetched if need be, and whether it came from the hub.

    Raises:
        ModelError: There is none, or none that may be loaded.
        OSError: It can't be read.
    """
    if source.model == DEMO_MODEL:
        return DEMO_FOLDER, False
    path = Path(os.path.expanduser(source.model))  # pathlib's own raises for an unknown ~user
    if path.exists() or looks_like_a_path(source.model):
        _check_folder(source.model, path)
        return path, False
    if not HUB_ID.fullmatch(source.model):
        raise ModelError(
            f"model {source.model!r} is neither a directory nor a hub id such as 'owner/name'"
        )
    return _download(source), True


def looks_like_a_path(model: str) -> bool:
    return (
        model.startswith(("/", "./", "../", "~"))
        or model.endswith("/")
        or "\\" in model
        or model.count("/") > 1
        or Path(model).suffix in {".safetensors", *PICKLES}
    )


def _check_folder(model: str, path: Path) -> None:
    """Raise for what is neither a diffusers directory nor a file with safetensors weights."""
    if path.is_file():
        if path.suffix == ".safetensors":
            return
        raise ModelError(
            f"model {model!r} is a file, but no .safetensors, and other kinds can run code when "
            "loaded: convert it where you trust it"
        )
    if not (path / "model_index.json").is_file():
        raise ModelError(
            f"model {model!r} is not a model directory (no model_index.json in it): "
            "name a folder made by save_pretrained, or a hub id"
        )
    for component in sorted(child for child in path.iterdir() if child.is_dir()):
        suffixes = {file.suffix for file in component.iterdir()}
        if suffixes & PICKLES and ".safetensors" not in suffixes:
            raise ModelError(_pickle_only(f"model {model!r}", component.name))


def _pickle_only(subject: str, component: str | None = None) -> str:
    where = f" for its {component}" if component else ""
    return (
        f"{subject} has pickle weights only{where}, which can run code when loaded: convert it "
        "where you trust it with pipeline.save_pretrained(FOLDER, safe_serialization=True)"
    )


def _download(source: ModelSource) -> Path:
    """The snapshot folder in the hub's cache, fetched if it is not there yet."""
    diffusers: Any = import_module("diffusers")
    try:
        folder = diffusers.DiffusionPipeline.download(
            source.model,
            revision=source.revision,
            variant=source.variant,
            use_safetensors=True,
        )
    except Exception as error:
        raise ModelError(hub_reason("model", source.model, source.revision, error)) from error
    return Path(folder)


def hub_reason(kind: str, name: str, revision: str | None, error: BaseException) -> str:
    """One sentence for whatever diffusers and the hub's client raise.

    Args:
        kind: ``model``, ``vae`` or ``lora``.
    """
    from huggingface_hub import errors

    subject = f"{kind} {name!r}"
    causes = _causes(error)

    def any_is(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if any_is(errors.GatedRepoError):
        return (
            f"{subject} is gated: accept its terms at https://huggingface.co/{name} "
            "and set HF_TOKEN to a token of that account"
        )
    if any_is(errors.RevisionNotFoundError):
        return f"{subject} has no revision {revision!r}: see its page on the hub"
    if any_is(errors.RepositoryNotFoundError):
        return (
            f"{subject} is not on the hub and not a local directory: check the name, "
            f"and for a private {kind} set HF_TOKEN"
        )
    if kind == "model" and any_is(errors.RemoteEntryNotFoundError):
        return f"{subject} is not a diffusers model (no model_index.json): name one that is"
    if kind == "model" and "safetensors" in str(error):
        return _pickle_only(subject)
    if any_is(errors.OfflineModeIsEnabled):
        return f"{subject} is not in the local cache and HF_HUB_OFFLINE is set: unset it once"
    if any_is(OSError, errors.LocalEntryNotFoundError):
        return (
            f"{subject} is not a local directory, and the hub could not be reached for it: "
            "check the network, or name a directory"
        )
    return f"{subject} can't be fetched from the hub: {first_line(error)}"


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in found:
        found.append(at)
        at = at.__cause__ or at.__context__
    return found


def first_line(error: BaseException) -> str:
    """What a library's many-line message says first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0].rstrip(".:") if lines else type(error).__name__
    return text if len(text) <= 300 else text[:300] + "..."
