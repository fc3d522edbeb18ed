"""Accuracy, precision, recall and F1 from counts, defined as in scikit-learn (an undefined ratio is 0)."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pretune_trainer.metrics.base import Metric, mean
from pretune_trainer.metrics.exhibits import Exhibits, confusion_matrix

Counts = NDArray[np.int64]
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

    known = {
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
    """Precision, recall and f1 of a label are in [brackets]."""

    def __init__(self, labels: Sequence[str], *, several: bool = False) -> None:
        self.labels = list(labels)
        self.several = several
        self.loss = 0.0
        self.examples = 0
        self.right = 0
        self.counts = np.zeros((3, len(labels)), np.int64)
        """Of each label: right answers, answers, and examples that have it [3, labels]."""
        self.pairs: Counter[tuple[int, int]] = Counter()
        """Examples by expected and predicted label, where each has one label."""

    def update(self, outcomes: Sequence[Judged]) -> None:
        """Count the outcomes."""
        self.loss += math.fsum(outcome.loss for outcome in outcomes)
        self.examples += len(outcomes)
        for outcome in outcomes:
            expected, predicted = set(outcome.expected), set(outcome.predicted)
            self.right += expected == predicted
            for counts, found in zip(self.counts, (expected & predicted, predicted, expected), strict=True):
                counts[list(found)] += 1
        if not self.several:
            self.pairs.update((outcome.expected[0], outcome.predicted[0]) for outcome in outcomes)

    def merge(self, other: Self) -> None:
        """Add the other's counts."""
        self.loss += other.loss
        self.examples += other.examples
        self.right += other.right
        self.counts += other.counts
        self.pairs += other.pairs

    def result(self) -> dict[str, float]:
        """Macro (each label alike), weighted (by its examples), and each label's own figures."""
        _, _, expected = self.counts
        weights = expected / max(1, expected.sum())
        figures = {"loss": mean(self.loss, self.examples), "accuracy": mean(self.right, self.examples)}
        figures |= _agreement(self._classes())
        for name, values in precision_recall_f1(self.counts).items():
            figures[f"{name}Macro"] = float(values.mean())
            figures[f"{name}Weighted"] = float(values @ weights)
            figures |= {f"{name}[{label}]": float(value) for label, value in zip(self.labels, values, strict=True)}
        return figures

    def exhibits(self) -> Exhibits:
        """The confusion matrix; none where an example can have several labels."""
        return Exhibits() if self.several else Exhibits(confusion=confusion_matrix(self.pairs, self.labels))

    def _classes(self) -> Counts:
        """Counts of classes that exclude each other: the labels, or no and yes."""
        if not self.several:
            return self.counts
        hits, predicted, expected = yes = self.counts.sum(axis=1)
        answers = self.examples * len(self.labels)
        no = (answers - predicted - expected + hits, answers - predicted, answers - expected)
        return np.stack([no, yes], axis=1)


def _agreement(counts: Counts) -> dict[str, float]:
    """Mean recall of the classes that occur, and Matthews' correlation coefficient as in Gorodkin (2004), by name.

    Counts [3, classes] are of each class's right answers, of its answers, and of the examples that have it.
    """
    hits, predicted, expected = counts
    total = int(expected.sum())
    occur = expected > 0
    chance = int(predicted @ expected)
    spread = (total**2 - int(predicted @ predicted)) * (total**2 - int(expected @ expected))
    return {
        "balancedAccuracy": float((hits[occur] / expected[occur]).mean()) if total else math.nan,
        "mcc": (total * int(hits.sum()) - chance) / math.sqrt(spread) if spread else 0.0,
    }


def precision_recall_f1(counts: Counts) -> dict[str, Floats]:
    """The three figures of each label [labels], by name, from the counts that `_agreement` takes."""
    hits, predicted, expected = counts
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, expected),
        "f1": _ratio(2 * hits, predicted + expected),
    }


def _ratio(part: Counts, whole: Counts) -> Floats:
    """`part / whole` element by element, 0 where it is undefined."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
