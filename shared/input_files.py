"""Input files of a sweep, named by their content: read once, checked, and sent when submitted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shared.each_value import Changes
from shared.errors import InvalidInput, InvalidSweep
from shared.fields import FIELDS, INPUT_KEY
from shared.input_checks import MAX_INPUT_BYTES, Checked, check_input, too_long

INPUT_FIELDS = tuple(name for name, field in FIELDS.items() if field.kind == "input")
SHOWN_CHARS = 120
"""How much of the end of a path an error message repeats."""


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One input of a sweep.

    Attributes:
        field: That it is a value of.
        path: Where it is; None of one that was named by its key, which the bucket has already.
        checked: What its head says, likewise.
    """

    field: str
    path: Path | None = None
    checked: Checked | None = None

    @property
    def title(self) -> str:
        """For messages."""
        return input_title(self.field, str(self.path))

    def read(self) -> bytes:
        """Its bytes, at most a limit's.

        Raises:
            InvalidSweep: It can't be read, or is too long.
        """
        assert self.path is not None
        try:
            with self.path.open("rb") as file:
                body = file.read(MAX_INPUT_BYTES + 1)
                length = len(body) if len(body) <= MAX_INPUT_BYTES else self.path.stat().st_size
        except FileNotFoundError as exc:
            raise self.fault("does not exist: check its path") from exc
        except IsADirectoryError as exc:
            raise self.fault("is a folder: name a file in it") from exc
        except (OSError, ValueError) as exc:
            raise self.fault(f"can't be read: {exc}") from exc
        if length > MAX_INPUT_BYTES:
            raise self.fault(str(too_long(length)))
        return body

    def fault(self, what: str) -> InvalidSweep:
        """The error of something wrong with it."""
        return InvalidSweep(f"{self.title} {what}", field=self.field, value=str(self.path))


class InputFiles:
    """The inputs of one sweep that is being written."""

    def __init__(self) -> None:
        self.by_key: dict[str, InputFile] = {}
        self._keys: dict[tuple[str, str], str] = {}

    @property
    def changes(self) -> Changes:
        """By field, what makes a key of a path."""
        return {field: partial(self._changed, field) for field in INPUT_FIELDS}

    def _changed(self, field: str, value: object) -> object:
        return self.key(field, value) if isinstance(value, str) else value

    def key(self, field: str, path: str) -> str:
        """Where the bucket keeps the file; a key stays what it is.

        Raises:
            InvalidSweep: It is not there, or not what the field takes.
        """
        if INPUT_KEY.fullmatch(path):
            self.by_key.setdefault(path, InputFile(field=field))
            return path
        if not path:
            raise InvalidSweep(f"{field} is empty: give a file's path, or null", field=field)
        key = self._keys.get((field, path))
        if key is None:
            file = InputFile(field=field, path=Path(path))
            body = file.read()
            try:
                checked = check_input(field, body)
            except InvalidInput as exc:
                raise file.fault(str(exc)) from exc
            key = self._keys[field, path] = input_key(body)
            self.by_key[key] = InputFile(field=field, path=Path(path), checked=checked)
        return key


def input_key(body: bytes) -> str:
    """Where the bucket keeps this content, under the pool's prefix."""
    return f"inputs/{hashlib.sha256(body).hexdigest()}"


def input_title(field: str, path: str) -> str:
    """An input as messages call it: the end of a path says most."""
    text = path if len(path) <= SHOWN_CHARS else "..." + path[-SHOWN_CHARS:]
    return f"{field} {text!r}"
