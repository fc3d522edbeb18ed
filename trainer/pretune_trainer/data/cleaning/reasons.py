"""Why a document is dropped."""

from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Why a document is dropped, as data.json names it."""

    EMPTY = "empty"
    OTHER_LANGUAGE = "otherLanguage"
    TOO_SHORT = "tooShort"
    TOO_LONG = "tooLong"
    FEW_LETTERS = "fewLetters"
    MANY_DIGITS = "manyDigits"
    GOPHER_WORD_COUNT = "gopherWordCount"
    GOPHER_WORD_LENGTH = "gopherWordLength"
    GOPHER_SYMBOLS = "gopherSymbols"
    GOPHER_BULLETS = "gopherBullets"
    GOPHER_ELLIPSES = "gopherEllipses"
    GOPHER_LETTERS = "gopherLetters"
    GOPHER_STOP_WORDS = "gopherStopWords"
    GOPHER_LINES = "gopherLines"
    GOPHER_PARAGRAPHS = "gopherParagraphs"
    GOPHER_TOP_NGRAM = "gopherTopNgram"
    GOPHER_NGRAMS = "gopherNgrams"
    C4_SENTENCES = "c4Sentences"
    C4_LOREM_IPSUM = "c4LoremIpsum"
    C4_BRACES = "c4Braces"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "nearDuplicate"
    CONTAMINATION = "contamination"
    NEAR_CONTAMINATION = "nearContamination"
    SMALL_IMAGE = "smallImage"
    UNDECODABLE = "undecodable"
    SILENT = "silent"
    CLIPPED = "clipped"


REASONS: Final = tuple(Reason)
KEPT: Final = 0
"""The verdict on a document that stays."""


def verdict(reason: Reason | None) -> int:
    """A reason as a number from 1, for arrays; `KEPT` without one."""
    return KEPT if reason is None else REASONS.index(reason) + 1
