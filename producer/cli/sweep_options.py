"""A sweep on the command line: a file, and an option for every field of a job.

The options come from the table of fields. Their order on the command line is the order of the
axes, since click hands parameters over in the order they were given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import click

from producer.cli.help import SectionOption
from producer.sweep_file import read_values
from shared.fields import FIELDS, Field
from shared.sweep import DIRECTIVES, Sweep

SHORT = {"prompt": "-p"}
FIELDS_SECTION = "Fields of a job (1,4 or 0..7 are several values; texts are repeated instead)"
NULL = "null"
"""How an option says null for a field that is not text."""

Values = dict[str, object]


def sweep_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add FILE and the fields' options to a command, which takes the outcome as ``values``."""

    @functools.wraps(command)
    def with_values(*args: Any, **given: Any) -> Any:
        file = given.pop("file")
        no_negative = given.pop("no_negative_prompt")
        key = given.pop("key")
        said = {name: given.pop(name) for name in list(given) if name in _NAMES}
        values = {name: value for name, value in said.items() if value not in (None, ())}
        if no_negative:
            values["negative_prompt"] = (None, *values.get("negative_prompt", ()))
        return command(*args, values=_merge(file, values, key), **given)

    for add in reversed([_FILE, *(_field_option(field) for field in FIELDS.values()), *_OTHERS]):
        with_values = add(with_values)
    return with_values


def make_sweep(values: Values) -> Sweep:
    """Validate, and tell on stderr what was mended."""
    from producer.cli.output import say

    sweep = Sweep.from_mapping(values)
    for note in sweep.notes:
        say(f"note: {note}")
    return sweep


def option_values(field: Field, text: str | None) -> list[str | None]:
    """The values in one option's text: text fields are never split, others at commas."""
    if text is None or field.kind == "text":
        return [text]
    parts = [part.strip() for part in text.split(",")]
    return [None if field.nullable and part == NULL else part for part in parts]


def _merge(file: str | None, options: Mapping[str, Any], key: str | None) -> Values:
    values: Values = read_values(file) if file is not None else {}
    for name, given in options.items():
        field = FIELDS.get(name)
        values[name] = (
            given
            if field is None
            else [value for text in given for value in option_values(field, text)]
        )
    if key is not None:
        output = values.get("output")
        values["output"] = {**(output if isinstance(output, Mapping) else {}), "key": key}
    return values


def _field_option(field: Field) -> Callable[..., Any]:
    default = "" if field.default is None else f"  [default: {field.default}]"
    return _option(
        field.option,
        *([SHORT[field.name]] if field.name in SHORT else []),
        field.name,
        section=FIELDS_SECTION,
        multiple=True,
        metavar="TEXT" if field.kind == "text" else "VALUES",
        help=field.help + default,
    )


def _option(*names: str, section: str = "The sweep", **given: Any) -> Callable[..., Any]:
    return click.option(*names, cls=SectionOption, section=section, **given)


_FILE = click.argument("file", required=False, metavar="[FILE]")
_OTHERS = (
    _option(
        "--no-negative-prompt",
        section=FIELDS_SECTION,
        is_flag=True,
        help="none at all, also as one value beside --negative-prompt",
    ),
    _option("--name", metavar="TEXT", help="part of its id, and of the folder's name"),
    _option("--num-images-per-prompt", metavar="N", help="consecutive seeds for each seed"),
    _option("--key", metavar="TEMPLATE", help="of the objects' keys; must hold {digest}"),
    _option("--reuse/--no-reuse", default=None, help="take images that storage has already"),
    _option("--priority", metavar="N", help="-100 to 100, higher first"),
    _option("--weight", metavar="W", help="share among sweeps of one priority and owner"),
)
_NAMES = {*FIELDS, *DIRECTIVES}
