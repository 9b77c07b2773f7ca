"""The same weights have the same fingerprint, wherever they lie; others have another."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.fingerprint import fingerprint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    for name, text in {
        "model_index.json": "{}",
        "unet/config.json": "{}",
        "unet/diffusion_pytorch_model.safetensors": "weights",
        "tokenizer/merges.txt": "a b",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_moving_touching_or_describing_a_model_keeps_its_fingerprint(folder: Path) -> None:
    before = fingerprint(folder, from_hub=False)
    (folder / "README.md").write_text("a fine model")
    (folder / "preview.png").write_bytes(b"png")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "lock.json").write_text("{}")

    moved = folder.rename(folder.parent / "elsewhere")
    (moved / "model_index.json").touch()

    assert before.startswith("sha256:")
    assert fingerprint(moved, from_hub=False) == before


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "tokenizer/merges.txt",
    ],
)
def test_another_weight_configuration_or_token_changes_it(folder: Path, name: str) -> None:
    before = fingerprint(folder, from_hub=False)

    (folder / name).write_text("other")

    assert fingerprint(folder, from_hub=False) != before


def test_a_renamed_file_and_moved_bytes_change_it(folder: Path) -> None:
    before = fingerprint(folder, from_hub=False)
    (folder / "unet").rename(folder / "transformer")
    renamed = fingerprint(folder, from_hub=False)

    (folder / "model_index.json").write_text("")
    (folder / "tokenizer" / "merges.txt").write_text("{}a b")

    assert len({before, renamed, fingerprint(folder, from_hub=False)}) == 3


def test_a_hub_snapshot_is_known_by_its_commit(folder: Path) -> None:
    snapshot = folder.rename(folder.parent / COMMIT)

    assert fingerprint(snapshot, from_hub=True) == f"hub:{COMMIT}"
    assert fingerprint(snapshot, from_hub=False).startswith("sha256:")
