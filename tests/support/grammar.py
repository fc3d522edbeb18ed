"""Made-up languages, in which every word has a translation and the verb goes to the end; and what texts are about."""

from collections.abc import Iterator

import numpy as np

_LEXICON = {
    "subject": {"the cat": "katu", "a bird": "pita", "my friend": "samo"},
    "verb": {"sees": "vidal", "likes": "amal", "hears": "olal"},
    "object": {"red apples": "ruma sipi", "old songs": "vana lolo", "water": "akva"},
}
_NOUNS = {
    "cat": "katu",
    "bird": "pita",
    "friend": "samo",
    "apple": "sipi",
    "song": "lolo",
    "river": "akva",
    "house": "domo",
    "tree": "arba",
}
_ADJECTIVES = {"red": "ruma", "old": "vana", "small": "mini", "kind": "lia", "cold": "fria"}
_VERBS = {"sees": "vidal", "likes": "amal", "hears": "olal", "finds": "trial", "paints": "pental", "wants": "volal"}
WORDS = ["the", "o", "above", "all", *_NOUNS, *_ADJECTIVES, *_VERBS, *_NOUNS.values(), *_ADJECTIVES.values()]
WORDS += _VERBS.values()
"""Of both languages."""


def translations(number: int, seed: int) -> Iterator[dict[str, str]]:
    """Rows of a sentence and its translation: subject verb object becomes subject object verb. There are 27."""
    random = np.random.default_rng(seed)
    for _ in range(number):
        said = {part: str(random.choice(list(words))) for part, words in _LEXICON.items()}
        meant = {part: _LEXICON[part][phrase] for part, phrase in said.items()}
        yield {
            "text": f"{said['subject']} {said['verb']} {said['object']}",
            "translation": f"{meant['subject']} {meant['object']} {meant['verb']}",
        }


def long_translations(number: int, seed: int) -> Iterator[dict[str, str]]:
    """As `translations`, of 13,824 sentences; adjectives follow their nouns, and "o" stands before an object."""
    random = np.random.default_rng(seed)
    for _ in range(number):
        sentence = _Sentence(random)
        yield {"text": " ".join(sentence.words), "translation": " ".join(sentence.translation)}


def reports(number: int, seed: int) -> Iterator[dict[str, str]]:
    """Rows of three sentences, of which one says that it matters "above all", and a summary: that one, in short."""
    random = np.random.default_rng(seed)
    for _ in range(number):
        sentences = [_Sentence(random) for _ in range(3)]
        main = int(random.integers(3))
        texts = [["above", "all", *each.words] if at == main else each.words for at, each in enumerate(sentences)]
        yield {"text": " ".join(word for text in texts for word in text), "summary": " ".join(sentences[main].core)}


class _Sentence:
    """Who does what to whom."""

    def __init__(self, random: np.random.Generator) -> None:
        subject, verb, target = (str(random.choice(list(words))) for words in (_NOUNS, _VERBS, _NOUNS))
        which, what = (str(random.choice(["", *_ADJECTIVES])) for _ in range(2))
        self.words = f"the {which} {subject} {verb} the {what} {target}".split()
        self.core = [subject, verb, target]
        meant = {**_NOUNS, **_ADJECTIVES, **_VERBS, "": ""}
        order = [subject, which, "o", target, what, verb]
        self.translation = " ".join(meant.get(word, word) for word in order).split()
