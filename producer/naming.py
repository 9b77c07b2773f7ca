"""Readable file names for images: ``000003_seed=3_guidance_scale=7.5.png``."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import InvalidSweep
from shared.fields import FIELDS, INPUT_KEY, Value
from shared.mistakes import shown
from shared.object_keys import render_template, template_names

if TYPE_CHECKING:
    from producer.results import SweepResults
    from shared.manifest import Manifest

Namer = Callable[[int], str]
"""From the user's index to a path relative to the folder, with forward slashes."""

MAX_NAME_BYTES = 200
"""File systems stop at 255 bytes a name; the rest is for those who add to it."""
SLUG_CHARS = (60, 45, 30, 20, 12, 8, 4)
"""What is kept of a text, the most that leaves the name short enough."""
INPUT_DIGITS = 12
"""Of an input file's SHA-256: enough to tell those of one sweep apart."""
INDEX_DIGITS = 6
"""Names sort as their indices up to a million images; larger sweeps get more digits."""
MAX_COMPARED = 1_000_000
"""Names compared with each other when a template holds neither index nor digest."""
SUFFIX = ".png"
DEFAULT_NAME = "sweep"
"""Of sweeps that nobody named."""
WHAT = "file name"
"""What error messages call a template."""
_DISTINCT = {
    "index": re.compile(r"0?[1-3]?[0-9]?d?"),
    "digest": re.compile(r"|\.(?:1[2-9]|[2-9][0-9])"),
}
"""Parts of a template that make any name distinct, as long as their format drops nothing."""
_BREAKS = re.compile(r"[^\w.+]+")


def make_namer(results: SweepResults, template: str | None = None) -> Namer:
    """How the sweep's images are called.

    Args:
        template: Such as ``{index:06}_seed={seed}``: job fields, ``index`` and ``digest``;
            slashes make folders, ``.png`` is added where it is missing. None is the index and
            the fields that vary.

    Raises:
        InvalidSweep: The template names no field, leaves its folder, or gives two images one
            name.
    """
    if template is None:
        return _default_namer(results)
    namer = _template_namer(results, _checked(template, results.total))
    if not any(
        name in _DISTINCT and _DISTINCT[name].fullmatch(spec or "")
        for _, name, spec, _ in string.Formatter().parse(template)
    ):
        _refuse_collisions(results, namer, template)
    return namer


def folder_of(manifest: Manifest) -> Path:
    """Where a sweep's files go unless told otherwise: its name, or its id where it has none."""
    return Path(manifest.sweep_id if manifest.name == DEFAULT_NAME else manifest.name)


def _checked(template: str, total: int) -> str:
    """Validate a template before anything is downloaded.

    Args:
        total: Jobs of the sweep.

    Returns:
        The template, ending in ``.png``.

    Raises:
        InvalidSweep: One sentence with the fault and the remedy.
    """
    names = template_names(template, [*_DISTINCT, *FIELDS], what=WHAT)
    if not template.strip():
        raise _bad(template, "is empty: write one such as {index:06}_seed={seed}, or leave it out")
    if not template.endswith(SUFFIX):
        template += SUFFIX
    if any(ord(char) < 32 or char in "\\\x7f" for char in template):
        raise _bad(template, "has a control character or backslash: take it out")
    for _, name, spec, _ in string.Formatter().parse(template):
        if name is not None and spec:
            _check_format(template, name, spec)
    samples = {name: _longest(name, total) for name in names}
    probe = render_template(template, samples, digest="0" * 64)
    parts = probe.split("/")
    if any(part.strip(" ") in ("", ".", "..") or part == SUFFIX for part in parts):
        raise _bad(template, "climbs out of its folder or has an empty part: use plain names")
    if max(len(part.encode()) for part in parts) > MAX_NAME_BYTES:
        raise _bad(template, f"makes names over {MAX_NAME_BYTES} bytes: leave some of it out")
    return template


def slug(value: Value, limit: int = SLUG_CHARS[0]) -> str:
    """The value as part of a file name: letters, digits, and ``-`` for anything else."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}" if value == float(f"{value:g}") else repr(value)
    if isinstance(value, int):
        return str(value)
    if INPUT_KEY.fullmatch(value):
        return value.removeprefix("inputs/")[:INPUT_DIGITS]
    return _BREAKS.sub("-", value).strip("-._")[:limit].strip("-._") or "empty"


def _default_namer(results: SweepResults) -> Namer:
    digits = max(INDEX_DIGITS, len(str(results.total - 1)))

    def name(index: int) -> str:
        values = results.varying(index)

        def render(limit: int) -> str:
            said = (f"{field}={slug(value, limit)}" for field, value in values.items())
            return "_".join((f"{index:0{digits}}", *said)) + SUFFIX

        text = _fitting(render)
        if len(text.encode()) > MAX_NAME_BYTES:  # a dozen fields vary: their names are too long
            stem = text.encode()[: MAX_NAME_BYTES - len(SUFFIX)].decode(errors="ignore")
            text = stem + SUFFIX
        return text

    return name


def _template_namer(results: SweepResults, template: str) -> Namer:
    names = _names_of(template)
    fields = [name for name in names if name in FIELDS]
    needs_digest = "digest" in names

    def name(index: int) -> str:
        job = results.job_of(index)
        digest = (results.digest_of(index) if needs_digest else None) or "unknown"

        def render(limit: int) -> str:
            values = {field: _part(getattr(job, field), limit) for field in fields}
            return render_template(template, values | {"index": index}, digest=digest)

        return _fitting(render)

    return name


def _part(value: Value, limit: int) -> Value:
    """Numbers stay numbers, so that a format such as ``:06`` works."""
    return value if isinstance(value, int | float) else slug(value, limit)


def _fitting(render: Callable[[int], str]) -> str:
    """The name with texts as long as there is room for."""
    text = ""
    for limit in SLUG_CHARS:
        text = render(limit)
        if max(len(part.encode()) for part in text.split("/")) <= MAX_NAME_BYTES:
            break
    return text


def _refuse_collisions(results: SweepResults, namer: Namer, template: str) -> None:
    if results.total > MAX_COMPARED:
        raise _bad(
            template, f"has neither index nor digest for {results.total:,} images: add {{index}}"
        )
    seen: dict[str, int] = {}
    for index in range(results.total):
        name = namer(index)
        # names that differ in case or in Unicode's composition only are one file on macOS
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), index)
        if other != index:
            raise _bad(
                template,
                f"gives jobs {other} and {index} the same name {shown(name)}: "
                f"add {{{_telling(results, template, other, index)}}}",
            )


def _telling(results: SweepResults, template: str, one: int, other: int) -> str:
    """A field that tells two jobs apart and can be relied on, else the index."""
    first, second = results.varying(one), results.varying(other)
    differing = [name for name in first if first[name] != second[name]]
    used = _names_of(template)
    return differing[0] if len(differing) == 1 and differing[0] not in used else "index"


def _names_of(template: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]


def _longest(name: str, total: int) -> Value:
    """A value of the field's type that is as long as they get, for a trial rendering."""
    if name == "index":
        return total - 1
    kind = FIELDS[name].kind if name in FIELDS else "text"
    if kind == "integer":
        return int(FIELDS[name].maximum or 0)
    return 1 / 3 if kind == "number" else "x" * 4 * SLUG_CHARS[-1]


def _check_format(template: str, name: str, spec: str) -> None:
    try:
        format(_longest(name, 1), spec)
    except ValueError:
        kind = FIELDS[name].kind if name in FIELDS else "integer"
        example = {"integer": ":06", "number": ":.1f"}.get(kind, ":.8")
        raise _bad(
            template, f"has {{{name}:{spec}}}, which is no format of it: write {{{name}{example}}}"
        ) from None


def _bad(template: str, why: str) -> InvalidSweep:
    return InvalidSweep(f"{WHAT} {shown(template)} {why}", field=WHAT, value=template)
