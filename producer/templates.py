"""Prompt templates: ``a {green|white} star`` is two prompts.

The only file that knows dynamicprompts, whose grammar has comments, variables and random choices
too. They are left out here: a sweep is what it says, so ``#``, ``$`` and ``%`` are plain text and
a random choice is refused.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from math import factorial
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import InvalidSweep
from shared.fields import MAX_TEXT_BYTES
from shared.mistakes import shown

if TYPE_CHECKING:
    from dynamicprompts.wildcards.collection import WildcardCollection

MAX_EXPANSIONS = 1_000_000_000
"""Of one template; they are counted before any is made."""
MAX_DEPTH = 16
"""Braces inside braces, and wildcards inside wildcards."""
PLAIN = {"#": "\ufdd0", "%": "\ufdd1", "\t": "\ufdd2", "\\": "\ufdd3"}
"""Characters that mean themselves here but not to the grammar, and what stands in for them:
code points that Unicode keeps out of texts."""
DOLLAR = "\ufdd4"
_LONE_DOLLAR = re.compile(r"(?<!\$)\$(?!\$)")
_NAME = re.compile(r"[\w ./-]+")


class Template:
    """All prompts of one template, in the order of nested loops, the last choice fastest.

    Attributes:
        what: The template as messages show it.
        unit: What counts its prompts.
    """

    unit = "prompt"

    def __init__(self, text: str, wildcards: Path | None = None) -> None:
        """Nothing is read yet.

        Args:
            wildcards: The folder that ``__name__`` may name a file of: ``name.txt``.
        """
        self.what = f"template {shown(text)}"
        self._text = text
        self._folder = wildcards
        self._values: dict[str, WildcardCollection | list[str]] = {}
        self._counts: dict[str, list[int]] = {}

    def numbered(self) -> Iterator[tuple[int, object]]:
        """Each prompt with its number.

        Raises:
            InvalidSweep: The template can't be read, or has too many.
        """
        from dynamicprompts.enums import SamplingMethod
        from dynamicprompts.sampling_context import SamplingContext
        from dynamicprompts.wildcards import WildcardManager

        count = self._count(self._parse(self._text, self.what), ())
        if count > MAX_EXPANSIONS:
            raise InvalidSweep(
                f"{self.what} makes {count:,} prompts: at most {MAX_EXPANSIONS:,} are allowed, "
                f"take choices away"
            )
        # the library is handed the words of the files that were read here, and no folder
        manager = WildcardManager(root_map={"": [dict(self._values)]} if self._values else None)
        manager.sort_wildcards = False
        context = SamplingContext(
            wildcard_manager=manager,
            default_sampling_method=SamplingMethod.COMBINATORIAL,
        )
        found = context.sample_prompts(_covered(self._text))
        for number, prompt in enumerate(found, 1):
            yield number, _uncovered(str(prompt))

    def _parse(self, text: str, what: str) -> object:
        from dynamicprompts.parser.parse import parse
        from pyparsing import ParseException

        if len(text) > MAX_TEXT_BYTES:
            raise InvalidSweep(f"{what} has over {MAX_TEXT_BYTES:,} characters: shorten it")
        _check_braces(text, what)
        try:
            with warnings.catch_warnings():
                # dynamicprompts 0.31 uses names that pyparsing 3.3 deprecates
                warnings.simplefilter("ignore", DeprecationWarning)
                return parse(_covered(text))
        except ParseException as exc:
            raise InvalidSweep(
                f"{what} can't be read at character {exc.loc + 1}: write {{a|b}}, {{2$$a|b|c}} "
                f"or __wildcard__"
            ) from exc
        except (ValueError, RecursionError) as exc:
            raise InvalidSweep(f"{what} can't be read: {exc}") from exc

    def _count(self, command: object, inside: tuple[str, ...]) -> int:
        """An upper bound of how many texts a part makes: equal ones count each."""
        from dynamicprompts.commands import (
            LiteralCommand,
            SamplingMethod,
            SequenceCommand,
            VariantCommand,
            WildcardCommand,
        )

        if getattr(command, "sampling_method", None) not in (None, SamplingMethod.COMBINATORIAL):
            raise InvalidSweep(f"{self.what} has a random choice: take its '~' or '@' away")
        if isinstance(command, LiteralCommand):
            return 1
        if isinstance(command, SequenceCommand):
            count = 1
            for token in command.tokens:
                count *= self._count(token, inside)
            return count
        if isinstance(command, VariantCommand):
            values = command.values
            if len(values) == 1 and isinstance(values[0], WildcardCommand):
                return _picks(self._count_lines(values[0].wildcard, inside), command)
            return _picks([self._count(value, inside) for value in values], command)
        if isinstance(command, WildcardCommand):
            return sum(self._count_lines(command.wildcard, inside))
        raise InvalidSweep(f"{self.what} has a variable: only choices and wildcards are read")

    def _count_lines(self, name: object, inside: tuple[str, ...]) -> list[int]:
        """How many texts each line of a wildcard's file makes."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidSweep(
                f"{self.what} has a wildcard that is not a plain name: {shown(name)}"
            )
        if name in inside or len(inside) == MAX_DEPTH:
            raise InvalidSweep(f"{self.what}: wildcard __{name}__ leads back to itself")
        if name not in self._counts:
            lines = self._read(name)
            self._values[name] = [_covered(line) for line in lines]
            what = f"wildcard file {name}.txt"
            self._counts[name] = [
                self._count(self._parse(line, what), (*inside, name)) for line in lines
            ]
        return self._counts[name]

    def _read(self, name: str) -> Sequence[str]:
        from producer.source_files import LineValues

        if self._folder is None:
            raise InvalidSweep(
                f"{self.what} has a wildcard __{name}__ but no folder to look it up in: "
                f"say wildcards: FOLDER, or --wildcards FOLDER"
            )
        folder = self._folder.resolve()
        path = (folder / f"{name}.txt").resolve()
        if not path.is_relative_to(folder):
            raise InvalidSweep(
                f"{self.what}: wildcard __{name}__ is outside the folder {self._folder}: "
                f"wildcards are read from there only"
            )
        lines = LineValues(path, f"wildcard file {name}.txt").numbered()
        return list(dict.fromkeys(str(line).strip() for _, line in lines))


def _picks(counts: Sequence[int], command: object) -> int:
    """How many ordered picks of so many different values there are."""
    least, most = getattr(command, "min_bound", 1), getattr(command, "max_bound", 1)
    least, most = min(least, len(counts)), min(most, len(counts))
    # ways[k]: products of k of the counts, summed over the choices of k (elementary symmetric)
    ways = [1] + [0] * most
    for count in counts:
        for size in range(most, 0, -1):
            ways[size] += ways[size - 1] * count
    return sum(ways[size] * factorial(size) for size in range(least, most + 1))


def _check_braces(text: str, what: str) -> None:
    """Refuse braces without a partner, with their place, and variables."""
    opened: list[int] = []
    for place, letter in enumerate(text, 1):
        if letter == "{":
            if place > 1 and text[place - 2] in "$%":
                raise InvalidSweep(
                    f"{what} has {text[place - 2]}{{ at character {place - 1}, a variable or "
                    f"wrap: only choices and wildcards are read"
                )
            opened.append(place)
        elif letter == "}":
            if not opened:
                raise InvalidSweep(
                    f"{what} closes a brace at character {place} that is not open: take it out"
                )
            opened.pop()
        if len(opened) > MAX_DEPTH:
            raise InvalidSweep(f"{what} has over {MAX_DEPTH} braces inside braces: flatten it")
    if opened:
        raise InvalidSweep(
            f"{what} has an unclosed brace at character {opened[-1]}: close it with '}}'"
        )


def _covered(text: str) -> str:
    for letter, cover in PLAIN.items():
        text = text.replace(letter, cover)
    return _LONE_DOLLAR.sub(DOLLAR, text)


def _uncovered(text: str) -> str:
    for letter, cover in (PLAIN | {"$": DOLLAR}).items():
        text = text.replace(cover, letter)
    return text
