"""A made-up language: every word has a translation, and the verb goes to the end."""

from collections.abc import Iterator

import numpy as np

_LEXICON = {
    "subject": {"the cat": "katu", "a bird": "pita", "my friend": "samo"},
    "verb": {"sees": "vidal", "likes": "amal", "hears": "olal"},
    "object": {"red apples": "ruma sipi", "old songs": "vana lolo", "water": "akva"},
}


def translations(number: int, seed: int) -> Iterator[dict[str, str]]:
    """Rows of a sentence and its translation: subject verb object becomes subject object verb."""
    random = np.random.default_rng(seed)
    for _ in range(number):
        said = {part: str(random.choice(list(words))) for part, words in _LEXICON.items()}
        meant = {part: _LEXICON[part][phrase] for part, phrase in said.items()}
        yield {
            "text": f"{said['subject']} {said['verb']} {said['object']}",
            "translation": f"{meant['subject']} {meant['object']} {meant['verb']}",
        }
