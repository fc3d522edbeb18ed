"""Signatures that tell how much two documents have in common: MinHash (Broder 1997) over runs of five words.

The share of equal places in two signatures estimates the Jaccard similarity of the sets of runs. A pair is found by its
bands: similarity s shares one of b bands of r places with probability 1 - (1 - s^r)^b (Leskovec et al., Mining of
Massive Datasets, section 3.4). With 21 bands of 6 places, and an estimate of at least 0.7, pairs are found:

    similarity   0.5        0.6     0.7    0.8     0.9
    probability  < 0.00001  0.01    0.47   0.995   1.0
"""

import re
from functools import lru_cache
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from pretune_trainer.words import HANGUL, UNSPACED

BANDS: Final = 21
ROWS: Final = 6
PLACES: Final = BANDS * ROWS
_RUN: Final = 5
"""Words in a run, as in FineWeb (Penedo et al. 2024)."""
_BLOCK: Final = 2048
"""Runs permuted at once: what fits a processor's cache."""
_WORD: Final = re.compile(rf"[{UNSPACED}{HANGUL}]|[^\W{UNSPACED}{HANGUL}]+")
_random: Final = np.random.default_rng(20)
_FACTORS: Final = (_random.integers(0, 2**32, (PLACES, 1), np.uint32) | np.uint32(1)).astype(np.uint32)
_TERMS: Final = _random.integers(0, 2**32, (PLACES, 1), np.uint32)
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)


def signature(text: str) -> NDArray[np.uint16]:
    """The text's signature, uint16 [PLACES]; case, punctuation and white space do not count."""
    runs = _runs(text)
    lowest = np.full(PLACES, 2**32 - 1, np.uint32)
    for start in range(0, len(runs), _BLOCK):
        permuted = _FACTORS * runs[start : start + _BLOCK]
        permuted += _TERMS
        np.minimum(lowest, permuted.min(axis=1), out=lowest)
    return lowest.astype(np.uint16)  # the low half: that the high one is small says only that the text is long


def _runs(text: str) -> NDArray[np.uint32]:
    """Hashes of all runs of words, uint32 [at least 1]."""
    found = _WORD.findall(text.lower())
    words = np.array([_hash(word) for word in found or [text]], np.uint64)
    size = min(_RUN, len(words))
    hashes = np.zeros(len(words) - size + 1, np.uint64)
    for place in range(size):
        hashes = hashes * _MIX + words[place : place + len(hashes)]
    return _mixed(hashes)


@lru_cache(maxsize=2**16)
def _hash(word: str) -> int:
    return crc32(word.encode("utf-8", "surrogatepass"))


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Every bit depends on all bits: the end of SplitMix64 (Steele et al. 2014)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (hashes >> np.uint64(32)).astype(np.uint32)


def band(signatures: NDArray[np.uint16], number: int) -> NDArray[np.uint64]:
    """A band of signatures [n, PLACES], as one number each: uint64 [n]."""
    keys = np.zeros(len(signatures), np.uint64)
    for place in range(number * ROWS, (number + 1) * ROWS):
        keys = (keys ^ (keys >> np.uint64(29))) * _MIX + signatures[:, place]
    return keys
