"""Words that are long, as clauses of Chinese or Thai are, which have no spaces: how much of them is learnt from."""

import re
from collections.abc import Iterator
from typing import Final

import numpy as np

LONGEST: Final = 1_000
"""Characters of a word; what is longer, such as an image in base64, is cut: training takes time with its square."""
KEPT: Final = 4_000_000
"""Characters of long words that are all kept."""
_LONG: Final = re.compile(r"(?<!\S)\S{33,}")
_CUT: Final = re.compile(rf"(\S{{{LONGEST}}})(?=\S)")


def with_few_long_words(texts: Iterator[str], kept: int = KEPT) -> Iterator[str]:
    """The texts without most of their long words: after the first `kept` characters of these, ever fewer stay.

    Whoever learns a vocabulary holds each distinct word, a byte pair encoding with some 300 bytes a character. Short
    words repeat, but clauses, addresses and numbers do not: without a bound, they fill the memory of any machine. A
    word stays with the chance kept / characters so far, so that of n characters kept * (1 + ln(n / kept)) stay.
    """
    random, seen = np.random.default_rng(0), 0

    def thinned(word: re.Match[str]) -> str:
        nonlocal seen
        seen += len(word[0])
        return _CUT.sub(r"\1 ", word[0]) if seen <= kept or random.random() * seen < kept else " "

    return (_LONG.sub(thinned, text) for text in texts)
