"""What was loaded: the hub's commit, or a hash over the files that decide the pixels."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from shared.canonical import canonical_json, sha256_hex

SUFFIXES = frozenset({".json", ".safetensors", ".txt", ".model"})
"""Weights, configurations and tokenizer files; pictures, readmes and pickles don't count."""

CHUNK_BYTES = 1 << 20


def fingerprint(folder: Path, *, from_hub: bool) -> str:
    """Identify the weights in a model folder, wherever it lies.

    Args:
        folder: A diffusers model directory.
        from_hub: ``folder`` is a snapshot in the hub cache, named by its commit.

    Returns:
        ``"hub:<commit>"`` or ``"sha256:<hex>"``.
    """
    if from_hub and re.fullmatch(r"[0-9a-f]{40}", folder.name):
        return f"hub:{folder.name}"
    digest = hashlib.sha256()
    for name, path in sorted(_files(folder)):
        digest.update(f"{name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def with_parts(model: str, parts: Mapping[str, object]) -> str:
    """The fingerprint of a checkpoint with others' weights put in.

    Args:
        model: The checkpoint's own.
        parts: Of its VAE and LoRAs, by rising name; empty for a checkpoint as it came.

    Returns:
        ``"<model>+<64 hex digits>"``.
    """
    return f"{model}+{sha256_hex(canonical_json(dict(parts)))}" if parts else model


def file_fingerprint(path: Path, config: Path | None = None) -> str:
    """``"sha256:<hex>"`` of one file's content.

    Args:
        config: A folder whose configurations and tokenizers, but not weights, are used with it.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    for name, other in sorted(_files(config)) if config is not None else ():
        if other.suffix != ".safetensors":
            body = other.read_bytes()
            digest.update(f"\0{name}\0{len(body)}\0".encode() + body)
    return f"sha256:{digest.hexdigest()}"


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Relative names with forward slashes, and paths; nothing hidden."""
    named = [(path.relative_to(folder), path) for path in folder.rglob("*")]
    return [
        (name.as_posix(), path)
        for name, path in named
        if path.suffix in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in name.parts)
    ]
