"""Where an image is stored: a pure function of its job that always holds the digest."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping

from shared.errors import InvalidSweep
from shared.fields import FIELDS
from shared.mistakes import nearest, shown

DEFAULT_TEMPLATE = "images/{digest:.2}/{digest}.png"
RESERVED = ("sweeps", "inputs")
"""First folders that hold Seedbed's own records."""
MAX_KEY_BYTES = 512
"""Half of S3's limit: the rest is for the settings' prefix."""
MAX_PART_BYTES = 255
"""Where file systems stop, and many an S3 is one."""
MAX_VALUE_BYTES = 80
"""A prompt in a key is cut to this."""
_UNSAFE = re.compile(r"[^\w .,()+=@-]+")
_SPEC = re.compile(r"[0-9]{0,2}(\.[0-9]{1,2})?[defg]?")
"""Formats of at most two digits: ``:99999999`` would make one job's key a hundred megabytes."""


def check_template(template: str) -> str:
    """Validate an ``output.key`` template.

    Raises:
        InvalidSweep: It lacks ``{digest}``, climbs out of its prefix, or names no field.
    """
    names = template_names(template, [*FIELDS, "digest"], what="output.key")
    pieces = list(string.Formatter().parse(template))
    if not any(name == "digest" and not spec for _, name, spec, _ in pieces):
        raise _bad(template, "has no {digest}: add it, so that two jobs can't share a key")
    if not template.isprintable() or "\\" in template:
        raise _bad(template, "has a control character or backslash: take it out")
    for _, name, spec, _ in pieces:
        if name is not None and not _fits(name, spec or ""):
            raise _bad(template, f"has {{{name}:{spec}}}, which is no format of it: leave it out")
    longest = {name: _longest(name) for name in names}
    probe = render_template(template, longest, digest="0" * 64)
    parts = probe.split("/")
    if any(part.strip(" ") in ("", ".", "..") for part in parts):
        raise _bad(template, "climbs out of its prefix or has an empty part: use plain folders")
    if parts[0] in RESERVED:
        raise _bad(template, f"starts with {parts[0]}/, which Seedbed keeps: use another folder")
    if not template.endswith(".png"):
        raise _bad(template, "does not end with .png: the images are PNG files")
    size = max(len(part.encode()) for part in parts)
    if size > MAX_PART_BYTES:
        raise _bad(template, f"makes names of {size} bytes: at most {MAX_PART_BYTES} are allowed")
    if len(probe.encode()) > MAX_KEY_BYTES:
        raise _bad(template, f"makes keys of {len(probe.encode())} bytes: at most {MAX_KEY_BYTES}")
    return template


def template_names(template: str, known: list[str], *, what: str) -> list[str]:
    """The fields a ``{name}`` or ``{name:spec}`` template uses.

    Raises:
        InvalidSweep: Its braces don't match, or it reaches into a value, or a name is unknown.
    """
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as exc:
        raise _bad(template, f"is not a template ({exc}): write {{name}}", what) from None
    names = []
    for _, name, spec, conversion in pieces:
        if name is None:
            continue
        if name not in known:
            raise _bad(template, f"has {shown(f'{{{name}}}')}: {nearest(name, known)}", what)
        if conversion or not _SPEC.fullmatch(spec or ""):
            raise _bad(template, f"has more than {{{name}}} or {{{name}:06}}: keep it plain", what)
        names.append(name)
    return names


def render_template(template: str, values: Mapping[str, object], *, digest: str) -> str:
    """Fill a checked template; values become safe file-name parts.

    A format such as ``:06`` that does not fit a value, as of ``null``, is left out.
    """
    parts = []
    for literal, name, spec, _ in string.Formatter().parse(template):
        parts.append(literal)
        if name is None:
            continue
        value = digest if name == "digest" else values[name]
        try:
            text = format(value, spec or "")
        except (TypeError, ValueError):
            text = str(value)
        parts.append(digest if text == digest else _safe(text))
    return "".join(parts)


def object_key(template: str, values: Mapping[str, object], *, digest: str) -> str:
    """Where an image lies, relative to the prefix: never among Seedbed's own records."""
    key = render_template(template, values, digest=digest)
    # a field's value, such as a model called "sweeps", may name a reserved folder
    return f"_{key}" if key.split("/", 1)[0] in RESERVED else key


def _safe(text: str) -> str:
    """Part of a name: letters, digits and a few marks; never empty, never ``..``."""
    cleaned = _UNSAFE.sub("_", text).encode()[:MAX_VALUE_BYTES].decode(errors="ignore")
    return cleaned.strip(" .") or "_"


def _longest(name: str) -> object:
    """A value as long as they get in a key."""
    if name == "digest":
        return "0" * 64
    field = FIELDS[name]
    if field.kind == "integer":
        return int(field.maximum or 0)
    return 1000 / 3 if field.kind == "number" else "x" * MAX_VALUE_BYTES


def _fits(name: str, spec: str) -> bool:
    try:
        format(_longest(name), spec)
    except ValueError:
        return False
    return True


def _bad(template: str, why: str, what: str = "output.key") -> InvalidSweep:
    return InvalidSweep(f"{what} {shown(template)} {why}", field=what, value=template)
