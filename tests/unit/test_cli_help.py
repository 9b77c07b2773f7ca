"""Every command's help: there, with two examples that parse, quick, and printed in the docs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.exceptions import Exit

from producer.cli.help import example_lines
from producer.cli.main import cli
from producer.cli.reference import help_of, reference
from shared.fields import FIELDS
from shared.settings import VARIABLES

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = sorted(cli.commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_it_does_and_ends_in_two_examples(name: str) -> None:
    command = cli.commands[name]
    assert command.help
    assert len(example_lines(command.epilog)) == 2
    assert help_of(command, name).splitlines()[-3].strip() == "Examples:"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_example_parses_as_the_command_it_is_for(name: str) -> None:
    for line in example_lines(cli.commands[name].epilog):
        words = shlex.split(re.split(r" [|<>] ", line)[0])
        assert words[:2] == ["seedbed", name]
        with cli.make_context("seedbed", words[1:]) as context:
            found, command, rest = cli.resolve_command(context, words[1:])
            assert command is not None
            command.make_context(found, rest, parent=context)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_asked_for_with_the_same_words_without_the_group(name: str) -> None:
    with pytest.raises(Exit):
        cli.commands[name].make_context(name, ["-h"])


@pytest.mark.parametrize("name", ["run", "submit", "plan"])
def test_every_field_of_a_job_is_an_option(name: str) -> None:
    options = {option for param in cli.commands[name].params for option in param.opts}
    assert {field.option for field in FIELDS.values()} <= options


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"schema", "show", "up", "down"}))
def test_help_names_the_variable_of_each_setting(name: str) -> None:
    text = help_of(cli.commands[name], name)
    for variable in VARIABLES.values():
        assert variable in text


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from producer.cli.main import cli\n"
        "cli.main(['--help'], prog_name='seedbed', standalone_mode=False)\n"
        "heavy = {'torch', 'boto3', 'celery', 'redis', 'PIL', 'rich', 'numpy'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_reference_in_the_docs_is_fresh() -> None:
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == reference(), (
        "run: python -m producer.cli.reference"
    )
