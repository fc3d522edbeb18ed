"""Precision, recall and F1 of entities, defined as in seqeval's default mode (conlleval: Tjong Kim Sang, 2002)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np

from pretune_trainer.metrics.base import Metric, mean
from pretune_trainer.metrics.classification import precision_recall_f1

OUTSIDE: Final = 0
"""The tag of a word that is in no entity."""


@dataclass(frozen=True)
class TagSet:
    """The tags of IOB2: O is 0, B- and I- of the label number n are 2n + 1 and 2n + 2."""

    labels: tuple[str, ...]
    """The kinds of entities."""

    @property
    def names(self) -> list[str]:
        """The tags' names, by number."""
        return ["O", *(f"{place}-{label}" for label in self.labels for place in "BI")]

    @staticmethod
    def begin(label: int) -> int:
        """The tag of an entity's first word."""
        return 2 * label + 1

    @staticmethod
    def inside(label: int) -> int:
        """The tag of an entity's other words."""
        return 2 * label + 2

    @staticmethod
    def continues(tag: int) -> bool:
        """Whether the tag goes on with an entity."""
        return tag != OUTSIDE and tag % 2 == 0

    @staticmethod
    def label(tag: int) -> int | None:
        """The number of the tag's label; None outside of entities."""
        return None if tag == OUTSIDE else (tag - 1) // 2


class Entity(NamedTuple):
    """A run of words."""

    label: int
    """Number of its kind."""
    start: int
    """First word."""
    end: int
    """The word after its last one."""


@dataclass(frozen=True)
class Tagged:
    """A text's words, judged."""

    expected: tuple[int, ...]
    """The right tags."""
    predicted: tuple[int, ...]
    """The model's."""
    loss: float
    """Summed over the words."""


class EntityReport(Metric[Tagged]):
    """An entity is right where its kind and all of its borders are."""

    known = {
        "loss": False,
        "accuracy": True,
        "precision": True,
        "recall": True,
        "f1": True,
        "precisionMacro": True,
        "recallMacro": True,
        "f1Macro": True,
    }
    """Over all entities, and the mean over the kinds that occur. Those of a kind are in [brackets]."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = list(labels)
        self.loss = 0.0
        self.words = 0
        self.right = 0
        self.counts = np.zeros((3, len(labels)), np.int64)
        """Of each kind: right ones, those of the model, and those of the text [3, labels]."""

    def update(self, outcomes: Sequence[Tagged]) -> None:
        """Count words and entities."""
        self.loss += math.fsum(outcome.loss for outcome in outcomes)
        for outcome in outcomes:
            self.words += len(outcome.expected)
            self.right += sum(map(int.__eq__, outcome.expected, outcome.predicted))
            expected, predicted = set(entities(outcome.expected)), set(entities(outcome.predicted))
            for counts, found in zip(self.counts, (expected & predicted, predicted, expected), strict=True):
                np.add.at(counts, [entity.label for entity in found], 1)

    def merge(self, other: Self) -> None:
        """Add the other's counts."""
        self.loss += other.loss
        self.words += other.words
        self.right += other.right
        self.counts += other.counts

    def result(self) -> dict[str, float]:
        """Loss in nats per word, accuracy of words; the other figures count entities."""
        overall = precision_recall_f1(self.counts.sum(axis=1, keepdims=True))
        occurs = self.counts.any(axis=0)
        figures = {"loss": mean(self.loss, self.words), "accuracy": mean(self.right, self.words)}
        for name, values in precision_recall_f1(self.counts).items():
            figures[name] = float(overall[name][0])
            figures[f"{name}Macro"] = float(values[occurs].mean()) if occurs.any() else math.nan
            figures |= {f"{name}[{label}]": float(value) for label, value in zip(self.labels, values, strict=True)}
        return figures


def entities(tags: Sequence[int]) -> Iterator[Entity]:
    """The entities in a text's tags. Where a model begins one with I-, or changes its kind within, a new one begins."""
    label: int | None = None
    start = 0
    for place, tag in enumerate([*tags, OUTSIDE]):
        begins = not TagSet.continues(tag) or TagSet.label(tag) != label
        if begins and label is not None:
            yield Entity(label, start, place)
        if begins:
            label, start = TagSet.label(tag), place
