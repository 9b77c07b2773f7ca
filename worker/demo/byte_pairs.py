"""The demo model's tokenizer: byte-level, with pairs counted on a few words."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

MERGES = 296
"""Byte-pair merges; with 2 x 256 bytes and 2 marks that makes 810 tokens."""

PROMPT_TOKENS = 77
"""What a CLIP text encoder reads, marks included; longer prompts are cut."""


def clip_tokenizer(words: list[str]) -> Any:
    """A CLIP tokenizer of 810 byte-level tokens: any Unicode text has some encoding.

    Args:
        words: Lower-case ASCII; the byte pairs are counted on them.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    merges = _merges(words)
    tokens = [
        *alphabet,
        *(letter + "</w>" for letter in alphabet),
        *(left + right for left, right in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=merges,  # type: ignore[arg-type]  # pairs are right, its annotation is not
        model_max_length=PROMPT_TOKENS,
    )


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges of lower-case ASCII words, most frequent first, ties by the letters.

    Source: Sennrich et al. 2016, https://arxiv.org/abs/1508.07909, algorithm 1.
    """
    spelled = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while len(merges) < MERGES:
        pairs = Counter(pair for letters in spelled for pair in itertools.pairwise(letters))
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append((left, right))
        for letters in spelled:
            place = 0
            while place < len(letters) - 1:
                if letters[place] == left and letters[place + 1] == right:
                    letters[place : place + 2] = [left + right]
                place += 1
    return merges
