"""A sweep on the command line: a file, and an option for every field of a job.

The options come from the table of fields. Their order on the command line is the order of the
axes, since click hands parameters over in the order they were given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from producer.absolute_models import absolute_models
from producer.cli.help import SectionOption
from producer.like import refine
from producer.sources import with_sources
from producer.sweep_file import read_values
from shared.errors import InvalidSweep
from shared.fields import FIELDS, Field, Value
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
        key, together = given.pop("key"), given.pop("zip_names")
        like = given.pop("like")
        column, wildcards = given.pop("prompt_column"), given.pop("wildcards")
        said = {name: given.pop(name) for name in list(given) if name in _NAMES}
        if column is not None and not said.get("prompt_file"):
            raise InvalidSweep(
                "--prompt-column goes with --prompt-file: give one, or leave --prompt-column out",
                field="prompt",
            )
        values = _prompts(
            {name: value for name, value in said.items() if value not in (None, ())}, column
        )
        if no_negative:
            values["negative_prompt"] = (None, *values.get("negative_prompt", ()))
        if wildcards is not None:
            values["wildcards"] = wildcards
        options = absolute_models(with_sources(_nulls(values), Path()), Path())
        merged = _merge(file, options, key)
        merged = zip_values(merged, together)
        if like is not None:
            merged = refine(_job_in(like), merged)
        return command(*args, values=merged, **given)

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
    """The values in one option's text: texts, paths, mappings and lists stay whole."""
    if text is None or field.kind in ("text", "input") or field.structured:
        return [text]
    parts = [part.strip() for part in text.split(",")]
    return [None if field.nullable and part == NULL else part for part in parts]


def zip_values(values: Values, together: Sequence[str]) -> Values:
    """The values with the named fields in ``zip`` groups, at the place of the first of them.

    Args:
        together: Of each group, fields or options separated by commas.

    Raises:
        InvalidSweep: A name is no field that is given, or in two groups.
    """
    if not together:
        return values
    given = values.get("zip", [])
    groups = list(given) if isinstance(given, list | tuple) else [given]
    names = [[_field_name(name) for name in text.split(",")] for text in together]
    taken = [name for group in names for name in group]
    for name in taken:
        if name not in values or taken.count(name) > 1:
            why = "names it twice" if name in values else "names it, but it has no values"
            raise InvalidSweep(
                f"{name}: --zip {why}; write --zip with options that are given", field=name
            )
    groups += [{name: values[name] for name in group} for group in names]
    made: Values = {}
    for name, value in values.items():
        if name in taken or name == "zip":
            made["zip"] = groups
        else:
            made[name] = value
    return made


def _field_name(text: str) -> str:
    return text.strip().removeprefix("--").replace("-", "_")


def _prompts(values: Mapping[str, Any], column: str | None) -> dict[str, Any]:
    """One list of prompts for all the options that give some, in the order of the options."""
    made: dict[str, Any] = {}
    for name, given in values.items():
        if name == "prompt_file":
            marks = [{"file": path, **({"column": column} if column else {})} for path in given]
            made["prompt"] = (*made.get("prompt", ()), *marks)
        elif name == "template":
            made["prompt"] = (*made.get("prompt", ()), *({"template": text} for text in given))
        elif name == "prompt":
            made["prompt"] = (*made.get("prompt", ()), *given)
        else:
            made[name] = given
    return made


def _nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    """Input fields' ``null`` told from a path, before paths are made absolute."""
    return {
        name: tuple(None if path == NULL else path for path in given)
        if name in FIELDS and FIELDS[name].kind == "input"
        else given
        for name, given in values.items()
    }


def _merge(file: str | None, options: Mapping[str, Any], key: str | None) -> Values:
    values: Values = read_values(file) if file is not None else {}
    for name, given in options.items():
        several = name in FIELDS and FIELDS[name].kind != "flag"
        values[name] = (
            [value for text in given for value in _spread(name, text)] if several else given
        )
    if key is not None:
        output = values.get("output")
        values["output"] = {**(output if isinstance(output, Mapping) else {}), "key": key}
    return values


def _spread(name: str, given: str | Mapping[str, str] | None) -> Sequence[object]:
    """Values of one option: several of its text, or the one that a mark stands for."""
    return [given] if isinstance(given, Mapping) else option_values(FIELDS[name], given)


def _field_option(field: Field) -> Callable[..., Any]:
    if field.kind == "flag":
        names = f"{field.option}/--no-{field.option.removeprefix('--')}"
        return _option(names, field.name, section=FIELDS_SECTION, default=None, help=field.help)
    several = "TEXT" if field.structured else "VALUES"
    default = "" if field.default is None else f"  [default: {field.default}]"
    return _option(
        field.option,
        *([SHORT[field.name]] if field.name in SHORT else []),
        field.name,
        section=FIELDS_SECTION,
        multiple=True,
        metavar={"text": "TEXT", "input": "FILE"}.get(field.kind, several),
        help=field.help + default,
    )


def _option(*names: str, section: str = "The sweep", **given: Any) -> Callable[..., Any]:
    return click.option(*names, cls=SectionOption, section=section, **given)


def _job_in(image: str) -> dict[str, Value]:
    from producer.show import read_origin
    from producer.sweep_text import starting_values

    return starting_values(read_origin(Path(image)), name=repr(image))


_FILE = click.argument("file", required=False, metavar="[FILE]")
_OTHERS = (
    _option(
        "--prompt-file",
        multiple=True,
        metavar="FILE",
        help="a literal prompt a line, or a column of a .csv, .tsv, .jsonl or .parquet",
    ),
    _option("--prompt-column", metavar="NAME", help="of --prompt-file  [default: prompt]"),
    _option(
        "--template",
        multiple=True,
        metavar="TEXT",
        help="prompts with choices: 'a {green|white} star'",
    ),
    _option("--wildcards", metavar="FOLDER", help="where a template's __name__ is name.txt"),
    _option("--rows", metavar="FILE", help="a job a row, columns are fields"),
    _option(
        "--zip",
        "zip_names",
        multiple=True,
        metavar="FIELDS",
        help="options that vary together: --zip scheduler,num-inference-steps",
    ),
    _option(
        "--like",
        metavar="IMAGE",
        help="start from the job in an image; the file and other options win over it",
    ),
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
_NAMES = {*FIELDS, *DIRECTIVES, "prompt_file", "template"}
