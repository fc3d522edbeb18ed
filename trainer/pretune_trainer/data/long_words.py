"""Words that are long, as clauses of Chinese or Thai are, which have no spaces: how much of them is learnt from."""

import re
from collections.abc import Iterator
from typing import Final

import numpy as np

LONGEST: Final = 256
"""Characters of a piece: what is longer is cut, as training takes time with its square."""
KEPT: Final = 64_000
"""Pieces that are learnt from."""
_LONG: Final = re.compile(r"(?<!\S)\S{33,}")


def with_few_long_words(texts: Iterator[str], kept: int = KEPT) -> Iterator[str]:
    """The texts without their long words, then pieces of these: all, or `kept` of them, each as likely as any other.

    Whoever learns a vocabulary holds each distinct word, a byte pair encoding with some 300 bytes a character. Short
    words repeat, but clauses, addresses and numbers do not: without a bound, they fill the memory of any machine.
    """
    pieces: list[str] = []
    random, seen = np.random.default_rng(0), 0
    for text in texts:
        long = _LONG.findall(text)
        for piece in (piece for word in long for piece in _cut(word)):
            # Reservoir sampling (Vitter, 1985, algorithm R).
            seen += 1
            if len(pieces) < kept:
                pieces.append(piece)
            elif (place := int(random.integers(seen))) < kept:
                pieces[place] = piece
        yield _LONG.sub(" ", text) if long else text
    yield from pieces


def _cut(word: str) -> Iterator[str]:
    return (word[start : start + LONGEST] for start in range(0, len(word), LONGEST))
