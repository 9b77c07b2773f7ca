"""How help looks: options in sections, commands in the order one meets them, two examples."""

from __future__ import annotations

from typing import Any

import click

EXAMPLES = "Examples:"
HELP_NAMES = ["-h", "--help"]
"""How help is asked for."""


class SectionOption(click.Option):
    """An option that help lists under a heading of its own."""

    def __init__(self, *args: Any, section: str, **given: Any) -> None:
        super().__init__(*args, **given)
        self.section = section


class SectionCommand(click.Command):
    """Lists its own options first, then each section's."""

    def __init__(self, **given: Any) -> None:
        # On the command itself: click keeps the help option of the first context it meets, which
        # may be one without the group above.
        super().__init__(context_settings={"help_option_names": HELP_NAMES}, **given)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the option sections of ``--help``."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                section = param.section if isinstance(param, SectionOption) else "Options"
                sections.setdefault(section, []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class OrderedGroup(click.Group):
    """Lists its commands in the order they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, as ``--help`` shows them."""
        return list(self.commands)


def examples(*lines: str) -> str:
    """An epilog that click prints as it stands."""
    return "\n".join(["\b", EXAMPLES, *(f"  {line}" for line in lines)])


def example_lines(epilog: str | None) -> list[str]:
    """The command lines in an epilog, for the tests."""
    _, _, listed = (epilog or "").partition(EXAMPLES)
    return [line.strip() for line in listed.splitlines() if line.strip()]
