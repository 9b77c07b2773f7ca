"""Where an image is stored: a pure function of its job that always holds the digest."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping

from shared.errors import InvalidSweep
from shared.fields import FIELDS, nearest, shown

DEFAULT_TEMPLATE = "images/{digest:.2}/{digest}.png"
RESERVED = ("sweeps", "inputs")
"""First folders that hold Seedbed's own records."""
MAX_KEY_BYTES = 1024
"""S3's limit on a key."""
MAX_VALUE_CHARS = 80
"""A prompt in a key is cut to this: file systems stop at 255 bytes a part."""
_UNSAFE = re.compile(r"[^\w .,()+=@-]+")


def check_template(template: str) -> str:
    """Validate an ``output.key`` template.

    Raises:
        InvalidSweep: It lacks ``{digest}``, climbs out of its prefix, or names no field.
    """
    names = template_names(template, [*FIELDS, "digest"], what="output.key")
    whole = any(
        name == "digest" and not spec for _, name, spec, _ in string.Formatter().parse(template)
    )
    if not whole:
        raise _bad(template, "has no {digest}: add it, so that two jobs can't share a key")
    probe = render_template(template, dict.fromkeys(names, "x"), digest="0" * 64)
    parts = probe.split("/")
    if template.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise _bad(template, "climbs out of its prefix or has an empty part: use plain folders")
    if parts[0] in RESERVED:
        raise _bad(template, f"starts with {parts[0]}/, which Seedbed keeps: use another folder")
    if not template.endswith(".png"):
        raise _bad(template, "does not end with .png: the images are PNG files")
    if any(ord(char) < 32 or char in "\\\x7f" for char in template):
        raise _bad(template, "has a control character or backslash: take it out")
    if len(probe.encode()) > MAX_KEY_BYTES // 2:
        raise _bad(template, f"is too long: keys have at most {MAX_KEY_BYTES} bytes")
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
            raise _bad(template, f"has {{{name}}}: {nearest(name, known)}", what)
        if conversion or "{" in (spec or "") or len(spec or "") > 8:
            raise _bad(template, f"has more than {{{name}}} or {{{name}:06}}: keep it plain", what)
        names.append(name)
    return names


def render_template(template: str, values: Mapping[str, object], *, digest: str) -> str:
    """Fill a checked template; values become safe file-name parts.

    Raises:
        InvalidSweep: A format such as ``:06`` does not fit its value.
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
            # numbers in a check are letters; a number's format then can't apply
            text = str(value)
        parts.append(digest if text == digest else _safe(text))
    return "".join(parts)


def _safe(text: str) -> str:
    """One path part: letters, digits and a few marks; never empty, never ``..``."""
    cleaned = _UNSAFE.sub("_", text)[:MAX_VALUE_CHARS].strip(" .")
    return cleaned or "_"


def _bad(template: str, why: str, what: str = "output.key") -> InvalidSweep:
    return InvalidSweep(f"{what} {shown(template)} {why}", field=what, value=template)
