"""Writes ``docs/cli.md`` from the commands' own help: ``python -m producer.cli.reference``."""

from __future__ import annotations

from pathlib import Path

import click

from producer.cli.help import HELP_NAMES
from producer.cli.main import cli

WIDTH = 96
TARGET = Path("docs/cli.md")
HEAD = """\
# Command line reference

Made by `python -m producer.cli.reference` from the commands' help; a test holds it fresh.

Exit codes: 0 done; 1 some jobs failed, a service is down, or our fault; 2 the user's mistake;
3 a wait timed out; 130 interrupted. Results go to stdout, prose to stderr.
"""


def reference() -> str:
    """The whole page."""
    sections = [HEAD, _section(cli, "seedbed")]
    sections += [_section(command, f"seedbed {name}") for name, command in cli.commands.items()]
    return "\n".join(sections)


def help_of(command: click.Command, path: str) -> str:
    """What ``--help`` prints, at a fixed width."""
    context = click.Context(
        command,
        info_name=path,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        help_option_names=HELP_NAMES,
    )
    return command.get_help(context)


def _section(command: click.Command, path: str) -> str:
    return f"## {path}\n\n```text\n{help_of(command, path)}\n```\n"


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
