"""Words of any script, where a text comes without a list of them."""

import unicodedata
from functools import cache
from typing import Final

UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\uf900-\ufaff\U00020000-\U0003ffff"
"""Thai to Khmer, Chinese and Japanese, which are written without spaces; for a class of `re`."""
HANGUL: Final = "\uac00-\ud7a3"
"""Korean, which has no space before a particle; likewise."""


def word_pattern(alone: str) -> str:
    """A pattern of letters, digits and underscores with their marks; each character of the class `alone` is a word."""
    marks = _marks()
    return rf"(?=\w)[{alone}][{marks}]*|[^\W{alone}]+(?:[{marks}]+[^\W{alone}]*)*"


@cache
def _marks() -> str:
    """Vowels of Hindi, accents of their own: parts of a word, though not to `re`."""
    return "".join(chr(code) for code in range(0x1F000) if unicodedata.category(chr(code)).startswith("M"))
