"""A sweep file that makes one image again, for a person to go on from."""

from __future__ import annotations

import unicodedata

from producer.show import HUB_WEIGHTS, Origin
from shared.errors import InvalidInput
from shared.fields import FIELDS, REQUIRED, Value

ALWAYS = (*REQUIRED, "seed", "num_inference_steps", "guidance_scale", "negative_prompt")
"""Fields that are written even at their default: what people change first."""
COMMENTS = {
    "model": "a list compares checkpoints",
    "prompt": "a line more is a prompt more",
    "negative_prompt": "null is none",
    "seed": "0..31 is 32 seeds",
    "guidance_scale": "[1, 4, 7.5] is three",
    "scheduler": "'seedbed models' lists those that suit the model",
}
COMMENT_COLUMN = 36
"""Where comments begin, unless the value is longer."""
ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def starting_values(origin: Origin, *, name: str) -> dict[str, Value]:
    """Every field of an image's job, for a sweep to start from.

    Args:
        name: Of the image, for the message.

    Raises:
        InvalidInput: A later version made it, with fields that this one has not.
    """
    if origin.unknown:
        raise InvalidInput(
            f"{name} was made by a later Seedbed, with {', '.join(origin.unknown)}: upgrade Seedbed"
        )
    return dict(origin.job)


def sweep_text(origin: Origin, *, name: str) -> str:
    """YAML 1.2 whose one job makes the same image; what it leaves out is at its default.

    Args:
        name: Of the image.

    Raises:
        InvalidInput: A later version made it, with fields that this one has not.
    """
    job = starting_values(origin, name=name)
    commit = HUB_WEIGHTS.fullmatch(str(origin.pin.get("weights", "")))
    if commit:
        job["revision"] = commit[1]
    said = [field for field in job if field in ALWAYS or job[field] != FIELDS[field].default]
    lines = [
        f"# Makes {_plain(name)} again: seedbed run FILE",
        "# To go on from it, change a value; a list or a range is an axis, and axes multiply.",
        f"# image {origin.digest}",
        f"# weights {_plain(str(origin.pin.get('weights', 'unknown')))}",
        "",
        *(_line(field, job[field], commit=bool(commit)) for field in said),
        "",
        "# name: my-study",
        *(
            _line(field.name, field.default, commit=False, hidden=True)
            for field in FIELDS.values()
            if field.name not in said and field.name not in ALWAYS
        ),
    ]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """The text in YAML's double quotes, with all that a terminal or a parser minds escaped."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _line(field: str, value: Value, *, commit: bool, hidden: bool = False) -> str:
    said = f"{field}: {_written(value)}"
    if FIELDS[field].structured and value is not None:
        said = f"{field}: {{fixed: {value}}}"  # JSON is YAML, and is for people to change
    if field == "prompt":
        said = f"prompt:\n  - {_written(value)}"
    comment = COMMENTS.get(field, FIELDS[field].help)
    if field == "revision" and commit:
        comment = "the commit it was made with; a pool's worker may serve the branch instead"
    if hidden:
        said = f"# {said}"
    gap = max(2, COMMENT_COLUMN - len(said.rpartition("\n")[2]))
    return f"{said}{' ' * gap}# {comment}"


def _written(value: Value) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return quoted(value) if isinstance(value, str) else repr(value)


def _plain(text: str) -> str:
    """For a comment: one line, nothing that a parser refuses."""
    return quoted(text)[1:-1]


def _escaped(char: str) -> str:
    if char in ESCAPES:
        return ESCAPES[char]
    category = unicodedata.category(char)
    if not category.startswith("C") and category not in ("Zl", "Zp"):
        return char
    code = ord(char)
    return (
        f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 2**16 else f"\\U{code:08X}"
    )
