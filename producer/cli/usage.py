"""A command line that can't be meant, as one sentence that says what would be right."""

from __future__ import annotations

import click

from producer.cli.output import one_line


def usage_sentence(exc: click.ClickException) -> str:
    """What is wrong, and the nearest right name or whose help has it."""
    text = exc.message.rstrip(".") or exc.format_message().rstrip(".")
    text = text[:1].lower() + text[1:]
    near = getattr(exc, "possibilities", None)  # of an option or a command that is not known
    if isinstance(exc, click.BadParameter) and exc.param is not None and exc.message:
        text = f"{max(exc.param.opts, key=len)} {exc.message}"
    elif near:
        text += f": did you mean {' or '.join(map(repr, near))}?"
    elif isinstance(exc, click.UsageError) and exc.ctx is not None:
        text += f"; '{exc.ctx.command_path} --help' has what there is"
    return one_line(" ".join(text.split()))
