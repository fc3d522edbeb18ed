"""C4's rules: Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 2.2, as published in code.

Lines that are no sentences are left out of a document, and so is a line that it has had before (over all documents,
that is what `duplicates` is for). The list of bad words is not applied: it drops what people say of themselves.
"""

import re
from typing import Final

from pretune_trainer.data.cleaning.reasons import Reason

_FEWEST_WORDS: Final = 5
_FEWEST_SENTENCES: Final = 3
_ENDS: Final = (".", "?", "!", '"')
_ELLIPSIS: Final = "..."
_NOTICES: Final = (
    "javascript",
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_SENTENCE: Final = re.compile(r"[.?!]+[\"')]*(?=\s|$)")


def c4_lines(text: str) -> str:
    """The lines that are sentences."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(dict.fromkeys(line for line in lines if _is_sentence(line)))


def c4_page(text: str) -> Reason | None:
    """Whether what is left of a document is of no use."""
    if "{" in text:
        return Reason.C4_BRACES
    if "lorem ipsum" in text.lower():
        return Reason.C4_LOREM_IPSUM
    return Reason.C4_SENTENCES if len(_SENTENCE.findall(text)) < _FEWEST_SENTENCES else None


def _is_sentence(line: str) -> bool:
    if not line.endswith(_ENDS) or line.endswith(_ELLIPSIS) or len(line.split()) < _FEWEST_WORDS:
        return False
    lower = line.lower()
    return not any(notice in lower for notice in _NOTICES)
