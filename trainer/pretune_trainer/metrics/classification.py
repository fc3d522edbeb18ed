"""Accuracy, precision, recall and F1 from counts, defined as in scikit-learn (an undefined ratio is 0)."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from pretune_trainer.metrics.base import Metric, mean
from pretune_trainer.metrics.exhibits import Exhibits, confusion_matrix

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """One example's labels, by number."""

    expected: tuple[int, ...]
    """The right ones."""
    predicted: tuple[int, ...]
    """The model's."""
    loss: float
    """Mean loss of the example."""
    log_odds: Sequence[float] = ()
    """Log-odds that the model gives each label, for figures of its confidence."""


class ClassificationReport(Metric[Judged]):
    """Counts of hits and misses per label; accuracy asks for exactly the right set of labels.

    With several labels a text, the balanced accuracy and Matthews' correlation coefficient (mcc) are those of each
    yes or no.
    """

    known: ClassVar[Mapping[str, bool]] = {
        "loss": False,
        "accuracy": True,
        "balancedAccuracy": True,
        "mcc": True,
        "precisionMacro": True,
        "recallMacro": True,
        "f1Macro": True,
        "precisionWeighted": True,
        "recallWeighted": True,
        "f1Weighted": True,
    }
    """Names of the figures, and whether larger is better; precision, recall and f1 of a label are in [brackets]."""

    def __init__(self, labels: Sequence[str], *, several: bool = False) -> None:
        self.labels = list(labels)
        self.several = several
        self.loss = 0.0
        self.examples = 0
        self.right = 0
        self.hits, self.predicted, self.expected = (np.zeros(len(labels), np.int64) for _ in range(3))
        self.pairs: Counter[tuple[int, int]] = Counter()
        """Examples by expected and predicted label, where each has one label."""

    def update(self, outcomes: Sequence[Judged]) -> None:
        """Count the outcomes."""
        self.loss += math.fsum(outcome.loss for outcome in outcomes)
        self.examples += len(outcomes)
        for outcome in outcomes:
            expected, predicted = set(outcome.expected), set(outcome.predicted)
            self.right += expected == predicted
            self.hits[list(expected & predicted)] += 1
            self.expected[list(expected)] += 1
            self.predicted[list(predicted)] += 1
        if not self.several:
            self.pairs.update((outcome.expected[0], outcome.predicted[0]) for outcome in outcomes)

    def merge(self, other: Self) -> None:
        """Add the other's counts."""
        self.loss += other.loss
        self.examples += other.examples
        self.right += other.right
        self.hits += other.hits
        self.expected += other.expected
        self.predicted += other.predicted
        self.pairs += other.pairs

    def result(self) -> dict[str, float]:
        """Macro (each label alike), weighted (by its examples), and each label's own figures."""
        scores = precision_recall_f1(self.hits, self.predicted, self.expected)
        weights = ratio(self.expected, np.full_like(self.expected, self.expected.sum()))
        figures = {"loss": mean(self.loss, self.examples), "accuracy": mean(self.right, self.examples)}
        figures |= _agreement(*self._classes())
        for name, values in scores.items():
            figures[f"{name}Macro"] = float(values.mean())
            figures[f"{name}Weighted"] = float(values @ weights)
            figures |= {f"{name}[{label}]": float(value) for label, value in zip(self.labels, values, strict=True)}
        return figures

    def exhibits(self) -> Exhibits:
        """The confusion matrix; none where an example can have several labels."""
        return Exhibits() if self.several else Exhibits(confusion=confusion_matrix(self.pairs, self.labels))

    def _classes(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Hits, predicted and expected of classes that exclude each other: the labels, or no and yes."""
        if not self.several:
            return self.hits, self.predicted, self.expected
        hits, predicted, expected = (int(each.sum()) for each in (self.hits, self.predicted, self.expected))
        answers = self.examples * len(self.labels)
        neither = answers - predicted - expected + hits
        return (
            np.array([neither, hits]),
            np.array([answers - predicted, predicted]),
            np.array([answers - expected, expected]),
        )


def _agreement(hits: NDArray[np.int64], predicted: NDArray[np.int64], expected: NDArray[np.int64]) -> dict[str, float]:
    """Mean recall of the classes that occur, and Matthews' correlation coefficient as in Gorodkin (2004), by name.

    Counts [labels] are of each label's right answers, of its answers, and of the examples that have it.
    """
    total = int(expected.sum())
    occur = expected > 0
    chance = int(predicted @ expected)
    spread = (total**2 - int(predicted @ predicted)) * (total**2 - int(expected @ expected))
    return {
        "balancedAccuracy": float((hits[occur] / expected[occur]).mean()) if total else math.nan,
        "mcc": (total * int(hits.sum()) - chance) / math.sqrt(spread) if spread else 0.0,
    }


def precision_recall_f1(
    hits: NDArray[np.int64], predicted: NDArray[np.int64], expected: NDArray[np.int64]
) -> dict[str, Floats]:
    """The three figures of each label [labels], by name, from the counts that `_agreement` takes."""
    return {
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, expected),
        "f1": ratio(2 * hits, predicted + expected),
    }


def ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Floats:
    """`part / whole` element by element, 0 where it is undefined."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
