"""Which words of a prompt the model never reads, said once in the log and with every image."""

from __future__ import annotations

import inspect
import logging
from collections import OrderedDict
from typing import Any

REMEMBERED = 4096
"""Texts whose note is kept; forgetting one costs tokenising it, and logging it again."""

SHOWN_CHARS = 200
"""Characters of a prompt's lost end that a note repeats."""

TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")

logger = logging.getLogger(__name__)


class CutPrompts:
    """Tells what one pipeline's tokenizers cut off the ends of texts."""

    def __init__(self, pipeline: Any) -> None:
        self._tokenizers = [
            (tokenizer, _limit(pipeline, tokenizer))
            for tokenizer in (getattr(pipeline, name, None) for name in TOKENIZERS)
            if tokenizer is not None
        ]
        self._notes: OrderedDict[str, str | None] = OrderedDict()

    def note(self, text: str | None) -> str | None:
        """``"cut to 77 tokens, without: ..."`` by the tokenizer that cuts first, or None."""
        if not text:
            return None
        if text in self._notes:
            self._notes.move_to_end(text)
            return self._notes[text]
        note = self._cut(text)
        if note is not None:
            logger.warning("prompt is too long for the model", extra={"cut": note})
        self._notes[text] = note
        if len(self._notes) > REMEMBERED:
            self._notes.popitem(last=False)
        return note

    def _cut(self, text: str) -> str | None:
        for tokenizer, limit in self._tokenizers:
            # As the pipelines themselves find what they cut: the last token is the end mark.
            tokens = tokenizer(text).input_ids
            if len(tokens) > limit:
                lost = tokenizer.decode(tokens[limit - 1 : -1]).strip()
                shown = lost if len(lost) <= SHOWN_CHARS else lost[:SHOWN_CHARS] + "..."
                return f"cut to {limit} tokens, without: {shown}"
        return None


def _limit(pipeline: Any, tokenizer: Any) -> int:
    """Tokens read of a text: T5's is an argument of the pipeline's call, CLIP's its own."""
    argument = inspect.signature(pipeline.__call__).parameters.get("max_sequence_length")
    if argument is not None and "T5" in type(tokenizer).__name__:
        return int(argument.default)
    return int(tokenizer.model_max_length)
