"""Sentences made from templates with slots: what fills a slot is an entity."""

from collections.abc import Iterator

import numpy as np

LABELS = ["symptom", "drug", "time"]

_FILLERS = {
    "symptom": ["fever", "dry cough", "mild fever", "strong head ache", "rash", "sore throat", "short breath"],
    "drug": ["aspirin", "codeine", "ibuprofen forte", "zinc", "cough syrup"],
    "time": ["monday", "last week", "early may", "yesterday", "two days"],
}
_TEMPLATES = [
    "{symptom} since {time}",
    "patient reports {symptom} and {symptom}",
    "took {drug} for {symptom} {time}",
    "no {symptom} , stopped {drug} {time}",
    "{drug} given {time} against {symptom}",
    "came back after {time} without complaints",
]


def sentences(number: int, seed: int) -> Iterator[dict[str, list[str]]]:
    """Rows of words and their IOB2 tags."""
    random = np.random.default_rng(seed)
    for _ in range(number):
        words: list[str] = []
        tags: list[str] = []
        for part in random.choice(_TEMPLATES).split():
            label = part.strip("{}")
            filler = str(random.choice(_FILLERS[label])).split() if part.startswith("{") else [part]
            words += filler
            tags += [f"B-{label}", *[f"I-{label}"] * (len(filler) - 1)] if part.startswith("{") else ["O"]
        yield {"text": words, "labels": tags}
