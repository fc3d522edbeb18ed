"""Whether a document repeats itself: Rae et al. 2021 (Gopher), appendix A.1.1, table A1.

A repetition is what has been said before in the document: of three equal lines, two. Of n-grams that overlap, each
character counts once. Shares are of the characters in words, or in lines and paragraphs: white space does not count.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pretune_trainer.data.cleaning.reasons import Reason

MOST_REPEATED: Final = 0.3
"""Of lines, and of paragraphs."""
MOST_REPEATED_CHARACTERS: Final = 0.2
"""In lines, and in paragraphs."""
MOST_IN_TOP_NGRAM: Final = {2: 0.20, 3: 0.18, 4: 0.16}
MOST_IN_REPEATED_NGRAMS: Final = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)


def gopher_repetition(text: str) -> Reason | None:
    """Whether the document says the same again and again."""
    if _repeats(text.split("\n")):
        return Reason.GOPHER_LINES
    if _repeats(text.split("\n\n")):
        return Reason.GOPHER_PARAGRAPHS
    return _ngrams(text.split())


def _repeats(parts: Sequence[str]) -> bool:
    said = [part.strip() for part in parts if part.strip()]
    first = set(said)
    repeated = sum(map(len, said)) - sum(map(len, first))
    return len(said) - len(first) > MOST_REPEATED * len(said) or (
        repeated > MOST_REPEATED_CHARACTERS * sum(map(len, said))
    )


def _ngrams(words: Sequence[str]) -> Reason | None:
    if len(set(words)) == len(words):
        return None
    numbers: dict[str, int] = {}
    ids = np.array([numbers.setdefault(word, len(numbers)) for word in words], np.uint64)
    sizes = np.array([len(word) for word in words])
    grams = ids
    for n in range(2, max(MOST_IN_REPEATED_NGRAMS) + 1):
        if len(words) < n:
            break
        grams = grams[:-1] * _MIX + ids[n - 1 :]
        _, first, counts = np.unique(grams, return_index=True, return_counts=True)
        if len(first) == len(grams):
            break  # where no n-gram is repeated, no longer one is
        if n in MOST_IN_TOP_NGRAM and _top(n, first, counts, sizes) > MOST_IN_TOP_NGRAM[n]:
            return Reason.GOPHER_TOP_NGRAM
        if n in MOST_IN_REPEATED_NGRAMS and _covered(n, first, sizes) > MOST_IN_REPEATED_NGRAMS[n]:
            return Reason.GOPHER_NGRAMS
    return None


def _top(n: int, first: NDArray[np.intp], counts: NDArray[np.intp], sizes: NDArray[np.int64]) -> float:
    """Share of characters in the most frequent n-gram; of several, in the longest."""
    ends = np.concatenate([[0], np.cumsum(sizes)])
    most = first[counts == counts.max()]
    return float(counts.max() * (ends[most + n] - ends[most]).max() / sizes.sum())


def _covered(n: int, first: NDArray[np.intp], sizes: NDArray[np.int64]) -> float:
    """Share of characters in n-grams that were there before."""
    repeated = np.ones(len(sizes) - n + 1, np.int64)
    repeated[first] = 0
    edges = np.zeros(len(sizes) + 1, np.int64)
    edges[: len(repeated)] += repeated
    edges[n:] -= repeated
    return float(sizes[np.cumsum(edges)[:-1] > 0].sum() / sizes.sum())
