"""What an evaluation leaves to look at, beside figures: a confusion matrix, some of what a model wrote. Bounded."""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Self

from pretune_api.base import Spec

_LABELS: Final = 20
"""Labels of a confusion matrix that are shown by name, the most frequent ones; the others together."""
_OTHERS: Final = "others"
_SAMPLES: Final = 8
_CHARACTERS: Final = 500
"""Of each text that is shown."""


class ConfusionMatrix(Spec):
    """How often each label was taken for which."""

    labels: list[str]
    """The labels; after the most frequent ones come all others together."""
    counts: list[list[int]]
    """Examples, by expected label (row) and predicted label (column)."""


class Sample(Spec):
    """Something that a model wrote."""

    wanted: str
    """What would have been right."""
    written: str
    """What came of it."""


class Exhibits(Spec):
    """What one evaluation shows."""

    confusion: ConfusionMatrix | None = None
    """Of a classifier with one label an example."""
    samples: list[Sample] = []
    """Of a model that writes or answers: the same examples in every evaluation."""


def confusion_matrix(pairs: Mapping[tuple[int, int], int], labels: Sequence[str]) -> ConfusionMatrix:
    """The matrix of counted (expected, predicted) numbers of `labels`."""
    expected: Counter[int] = Counter()
    for (wanted, _), count in pairs.items():
        expected[wanted] += count
    shown = sorted(range(len(labels)), key=lambda number: -expected[number])[:_LABELS]
    shown.sort()
    place = {number: row for row, number in enumerate(shown)}
    names = [labels[number] for number in shown] + ([_OTHERS] if len(labels) > len(shown) else [])
    counts = [[0] * len(names) for _ in names]
    for (wanted, predicted), count in pairs.items():
        counts[place.get(wanted, len(shown))][place.get(predicted, len(shown))] += count
    return ConfusionMatrix(labels=names, counts=counts)


class Samples:
    """Keeps a few texts, chosen by what was wanted: the same in every evaluation, at any number of ranks."""

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}

    def add(self, wanted: str, written: str) -> None:
        """Take in a text."""
        wanted, written = wanted[:_CHARACTERS], written[:_CHARACTERS]
        self._kept[wanted] = min(written, self._kept.get(wanted, written))
        if len(self._kept) > _SAMPLES:
            del self._kept[max(self._kept, key=_place)]

    def merge(self, other: Self) -> None:
        """Take in another's."""
        for wanted, written in other._kept.items():
            self.add(wanted, written)

    def chosen(self) -> list[Sample]:
        """The texts that are kept, always in one order."""
        return [Sample(wanted=wanted, written=self._kept[wanted]) for wanted in sorted(self._kept, key=_place)]


def _place(wanted: str) -> tuple[int, str]:
    """Where a text stands in an order that has nothing to do with what it says."""
    return zlib.crc32(wanted.encode()), wanted
