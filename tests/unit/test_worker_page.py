"""docs/worker.md has every setting of a worker, and says rightly which of them are in the pin."""

from __future__ import annotations

import re
import shlex
from dataclasses import MISSING, fields
from pathlib import Path

import click
import pytest

from producer.cli.main import cli
from shared.pin import Pin
from shared.settings import VARIABLES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "worker.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(--[\w-]+)` \|.*\| ([a-z]+) \|$", PAGE, re.MULTILINE)
ELSEWHERE = {
    "vaes",
    "loras",
    "allow",
    "single_file_config",
    "models",
    "variant",
    "show",
    "as_json",
    "metrics_port",
    "metrics_host",
    "pod_deletion_cost",
    "celery_events",
    *VARIABLES,
}
"""Options that are no setting of speed and memory; those in seconds are not either."""


def test_every_setting_of_a_worker_is_on_the_page() -> None:
    command = cli.commands["worker"]
    settings = {
        param.name: {*param.opts, *param.secondary_opts}
        for param in command.params
        if isinstance(param, click.Option) and param.name not in ELSEWHERE
        if not str(param.name).endswith("_seconds")
    }
    listed = {option for option, _ in ROWS}
    assert {name for name, options in settings.items() if not options & listed} == set()
    assert listed <= {option for options in settings.values() for option in options}


def test_what_makes_other_images_is_in_the_pin_and_nothing_else() -> None:
    options = {option.removeprefix("--").replace("-", "_"): pixels for option, pixels in ROWS}
    assert set(options.values()) == {"same", "rounding", "other"}
    optional = {item.name for item in fields(Pin) if item.default is not MISSING}
    others = {name for name, pixels in options.items() if pixels == "other"}
    assert others & optional == {"autocast", "vae_tiling"}
    assert others <= {item.name for item in fields(Pin)}


@pytest.mark.parametrize("line", re.findall(r"^(seedbed worker .*)$", PAGE, re.MULTILINE))
def test_its_commands_parse(line: str) -> None:
    command = cli.commands["worker"]
    assert command.make_context("worker", shlex.split(line)[2:])


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
