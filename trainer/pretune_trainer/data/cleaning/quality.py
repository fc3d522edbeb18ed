"""Whether a document is of use by itself: its length, its characters, and Gopher's rules for prose.

Gopher: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", appendix A.1.1.
"""

import re
from collections.abc import Sequence
from typing import Final

from pretune_api.cleaning import CharacterFilter, LengthFilter
from pretune_trainer.data.cleaning.reasons import Reason

_WORDS: Final = (50, 100_000)
_WORD_LENGTH: Final = (3.0, 10.0)
_MOST_SYMBOLS: Final = 0.1
_MOST_BULLETS: Final = 0.9
_MOST_ELLIPSES: Final = 0.3
_FEWEST_WITH_LETTERS: Final = 0.8
_FEWEST_STOP_WORDS: Final = 2
_STOP_WORDS: Final = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
_BULLETS: Final = ("•", "‣", "-", "*")
_ELLIPSES: Final = ("...", "…")
_PUNCTUATION: Final = ".,;:!?\"'()[]"
_LETTER: Final = re.compile(r"[^\W\d_]")


def length(text: str, wanted: LengthFilter) -> Reason | None:
    """Whether the document is too short or too long."""
    words = len(text.split())
    if len(text) < (wanted.min_characters or 0) or words < (wanted.min_words or 0):
        return Reason.TOO_SHORT
    if len(text) > (wanted.max_characters or len(text)) or words > (wanted.max_words or words):
        return Reason.TOO_LONG
    return None


def characters(text: str, wanted: CharacterFilter) -> Reason | None:
    """Whether the document has too few letters or too many digits."""
    visible = sum(map(len, text.split()))
    if wanted.min_letters is not None and sum(map(str.isalpha, text)) < wanted.min_letters * visible:
        return Reason.FEW_LETTERS
    if wanted.max_digits is not None and sum(map(str.isdecimal, text)) > wanted.max_digits * visible:
        return Reason.MANY_DIGITS
    return None


def gopher_quality(text: str) -> Reason | None:
    """Whether the document is no prose, by Gopher's rules."""
    words = text.split()
    if not _WORDS[0] <= len(words) <= _WORDS[1]:
        return Reason.GOPHER_WORD_COUNT
    if not _WORD_LENGTH[0] <= sum(map(len, words)) / len(words) <= _WORD_LENGTH[1]:
        return Reason.GOPHER_WORD_LENGTH
    if max(text.count("#"), sum(map(text.count, _ELLIPSES))) > _MOST_SYMBOLS * len(words):
        return Reason.GOPHER_SYMBOLS
    return _lines(text) or _words(words)


def _lines(text: str) -> Reason | None:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if sum(line.startswith(_BULLETS) for line in lines) > _MOST_BULLETS * len(lines):
        return Reason.GOPHER_BULLETS
    if sum(line.endswith(_ELLIPSES) for line in lines) > _MOST_ELLIPSES * len(lines):
        return Reason.GOPHER_ELLIPSES
    return None


def _words(words: Sequence[str]) -> Reason | None:
    if sum(_LETTER.search(word) is not None for word in words) < _FEWEST_WITH_LETTERS * len(words):
        return Reason.GOPHER_LETTERS
    if len(_STOP_WORDS.intersection(word.strip(_PUNCTUATION).lower() for word in words)) < _FEWEST_STOP_WORDS:
        return Reason.GOPHER_STOP_WORDS
    return None
