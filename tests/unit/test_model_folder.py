"""A relative path names the same checkpoint for whoever sends a sweep and whoever renders it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from producer.absolute_models import absolute_models
from producer.cli import worker_command
from producer.cli.main import cli
from producer.cli.sweep_options import Values, make_sweep, sweep_options
from producer.model_folder import INDEX, absolute_model, check_model_folder
from producer.sources import with_sources
from producer.sweep_file import load_sweep
from shared.errors import InvalidSweep
from shared.worker_options import VARIABLE, WorkerOptions

HUB = [
    "demo",
    "sd-turbo",
    "owner/name",
    "owner/name@refs/pr/3",
    "owner/name@0123456789abcdef0123456789abcdef01234567",
    "",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a checkpoint ``ckpt`` in it; home is beside it."""
    here = tmp_path / "here"
    for name in ("ckpt", "demo", "owner"):
        (here / name).mkdir(parents=True)
    (here / "ckpt" / INDEX).write_text("{}")
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return here


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("./ckpt", "here/ckpt"),
        ("ckpt", "here/ckpt"),
        ("ckpt/", "here/ckpt"),
        ("models/sd/v1", "here/models/sd/v1"),
        ("./a@b", "here/a@b"),
        ("../other", "other"),
        (".", "here"),
        ("..", ""),
        ("~/x", "home/x"),
        ("./sub/../ckpt", "here/ckpt"),
    ],
)
def test_a_path_is_made_absolute(folder: Path, written: str, meant: str) -> None:
    assert absolute_model(written) == str(folder.parent / meant).rstrip("/")
    assert absolute_model(absolute_model(written)) == absolute_model(written)


@pytest.mark.parametrize("name", [*HUB, "/srv/models/a"])
def test_demo_hub_ids_and_absolute_paths_stay_as_they_are(folder: Path, name: str) -> None:
    assert absolute_model(name) == name


def test_a_link_is_kept(folder: Path) -> None:
    (folder / "current").symlink_to("ckpt")
    assert absolute_model("./current") == str(folder / "current")


def models_of(values: dict[str, object]) -> set[str]:
    layout = make_sweep(values).layout
    return {layout.job(index).model for index in range(layout.total)}


def test_a_sweep_file_means_paths_from_its_own_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = folder / "sweep.yaml"
    file.write_text("model: [./ckpt, ckpt, ~/x, demo, owner/name]\nprompt: a\n")
    monkeypatch.chdir(tmp_path)
    for path in (file, Path("here/sweep.yaml")):
        layout = load_sweep(path).layout
        assert [layout.job(index).model for index in range(layout.total)] == [
            str(folder / "ckpt"),
            str(tmp_path / "home/x"),
            "demo",
            "owner/name",
        ]


def test_an_option_means_paths_from_the_current_folder(folder: Path) -> None:
    found: list[Values] = []

    @click.command()
    @sweep_options
    def command(values: Values) -> None:
        found.append(values)

    sub = folder / "sweeps"
    sub.mkdir()
    (sub / "sweep.yaml").write_text("model: ./other\nprompt: a\n")
    arguments = ["sweeps/sweep.yaml", "--model", "./ckpt", "--model", "demo"]
    assert CliRunner().invoke(command, arguments).exit_code == 0
    assert models_of(found[0]) == {str(folder / "ckpt"), "demo"}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Callable[..., WorkerOptions]:
    """``seedbed worker`` up to where it would become the worker's process."""
    monkeypatch.setattr(worker_command, "NEEDED", ())
    environs: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda file, arguments, environ: environs.append(environ))

    def start(*arguments: str) -> WorkerOptions:
        given = ["worker", "--redis-url", "redis://127.0.0.1:1", *arguments]
        result = CliRunner().invoke(cli, given, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return WorkerOptions.from_json(environs[-1][VARIABLE])

    return start


def test_a_worker_serves_the_folder_that_a_sweep_means(
    folder: Path, started: Callable[..., WorkerOptions]
) -> None:
    options = started("--model", "./ckpt", "--model", "owner/name@main", "--model", "demo")
    assert options.models == (str(folder / "ckpt"), "owner/name@main", "demo")


def test_a_home_folder_is_looked_up_before_anything_is_started(folder: Path) -> None:
    home = folder.parent / "home" / "x"
    home.mkdir(parents=True)
    with pytest.raises(InvalidSweep, match=INDEX):
        check_model_folder(absolute_model("~/x"))
    (home / INDEX).write_text("{}")
    check_model_folder(absolute_model("~/x"))


def test_models_are_absolute_wherever_they_stand_in_a_sweep(folder: Path) -> None:
    (folder / "models.txt").write_text("./ckpt\ndemo\n")
    (folder / "rows.csv").write_text("prompt,model\na,./ckpt\nb,demo\n")
    (folder / "seeds.csv").write_text("seed\n1\n")
    ckpt = str(folder / "ckpt")
    values = with_sources(
        {
            "model": [{"fixed": "./ckpt"}, {"file": "models.txt"}],
            "zip": [{"model": ["./ckpt", "demo"], "prompt": ["./ckpt", "b"]}],
        },
        folder,
    )
    found = absolute_models(values, folder)
    fixed, source = found["model"]  # type: ignore[misc]
    assert fixed == {"fixed": ckpt}
    assert list(source.numbered()) == [(1, ckpt), (2, "demo")]
    assert found["zip"] == [{"model": [ckpt, "demo"], "prompt": ["./ckpt", "b"]}]

    rows = absolute_models(with_sources({"rows": "rows.csv"}, folder), folder)
    assert models_of(rows) == {ckpt, "demo"}
    rows = absolute_models(with_sources({"rows": "seeds.csv"}, folder), folder)
    assert models_of({"model": "demo", "prompt": "a", **rows}) == {"demo"}
    inline = absolute_models({"rows": [{"model": "./ckpt", "prompt": "a"}]}, folder)
    assert models_of(inline) == {ckpt}
