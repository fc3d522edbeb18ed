"""Whether a classifier's probabilities put texts in order (AUROC) and mean what they say (calibration): counted."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from pretune_trainer.metrics.base import Metric, mean
from pretune_trainer.metrics.classification import Judged

_BINS: Final = 15
"""Bins of confidence, equally wide, as in Guo et al. (2017)."""
_EDGES: Final = np.linspace(0.0, 1.0, _BINS + 1)[1:-1]
"""Where one bin ends, inclusive, and the next begins."""


class Confidence(Metric[Judged]):
    """Area under the ROC curve, mean over labels each against all others, and the expected calibration error.

    Log-odds are counted as float16: memory is bounded, and ranks add up exactly. Labels that every text has, or none,
    have no curve. With several labels a text, what is calibrated is each yes or no.
    """

    known = {"aurocMacro": True, "calibrationError": False}

    def __init__(self, labels: int, *, several: bool) -> None:
        self._several = several
        self._scores: list[tuple[Counter[float], Counter[float]]] = [(Counter(), Counter()) for _ in range(labels)]
        self._answers, self._right = (np.zeros(_BINS, np.int64) for _ in range(2))
        self._confidence = np.zeros(_BINS)

    def update(self, outcomes: Sequence[Judged]) -> None:
        """Count the outcomes."""
        if not outcomes:
            return
        odds = np.array([outcome.log_odds for outcome in outcomes])
        truth = np.zeros(odds.shape, bool)
        for row, outcome in zip(truth, outcomes, strict=True):
            row[list(outcome.expected)] = True
        rounded = odds.astype(np.float16)
        for (without, having), scores, has in zip(self._scores, rounded.T, truth.T, strict=True):
            without.update(scores[~has].tolist())
            having.update(scores[has].tolist())
        if self._several:
            self._calibrate(np.abs(odds).ravel(), ((odds > 0) == truth).ravel())
        else:
            self._calibrate(odds.max(axis=1), truth[np.arange(len(truth)), odds.argmax(axis=1)])

    def _calibrate(self, odds: NDArray[np.float64], right: NDArray[np.bool_]) -> None:
        confidence = 1.0 / (1.0 + np.exp(-odds))
        bins = np.searchsorted(_EDGES, confidence)
        self._answers += np.bincount(bins, minlength=_BINS)
        self._right += np.bincount(bins[right], minlength=_BINS)
        self._confidence += np.bincount(bins, confidence, minlength=_BINS)

    def merge(self, other: Self) -> None:
        """Add the other's counts."""
        for mine, theirs in zip(self._scores, other._scores, strict=True):
            for one, more in zip(mine, theirs, strict=True):
                one.update(more)
        self._answers += other._answers
        self._right += other._right
        self._confidence += other._confidence

    def result(self) -> dict[str, float]:
        """aurocMacro, calibrationError; not a number where nothing was seen."""
        total = int(self._answers.sum())
        error = mean(float(np.abs(self._right - self._confidence).sum()), total)
        return {"aurocMacro": _mean(_area(*scores) for scores in self._scores), "calibrationError": error}


def _mean(values: Iterable[float]) -> float:
    found = [value for value in values if math.isfinite(value)]
    return mean(math.fsum(found), len(found))


def _area(without: Counter[float], having: Counter[float]) -> float:
    """The chance that a text that has the label scores higher than one that has not; ties count half.

    Not a number where a score is none: it could stand anywhere.
    """
    if any(map(math.isnan, without | having)):
        return math.nan
    pairs = without.total() * having.total()
    below = wins = 0
    for score in sorted(without.keys() | having.keys()):
        wins += having[score] * (2 * below + without[score])
        below += without[score]
    return wins / (2 * pairs) if pairs else math.nan
