"""How far numbers are from what they should be, and whether they rise and fall together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from pretune_trainer.metrics.base import Metric, mean
from pretune_trainer.metrics.classification import Floats


@dataclass(frozen=True)
class Guessed:
    """One example's number."""

    expected: float
    predicted: float


class RegressionReport(Metric[Guessed]):
    """Errors, and correlation from moments about the mean (Chan et al., 1979): sums of squares would lose digits."""

    known = {"loss": False, "mae": False, "rmse": False, "pearson": True, "r2": True}
    """The loss is the mean squared error."""

    def __init__(self) -> None:
        self.examples = 0
        self.absolute = 0.0
        self.squared = 0.0
        self.means = np.zeros(2)
        """Of expected and predicted."""
        self.moments = np.zeros((2, 2))
        """Sums of products of the distances from the means."""
        self.least, self.most = np.full(2, np.inf), np.full(2, -np.inf)
        """Of expected and predicted: by rounding, there are moments where nothing varies, too."""

    def update(self, outcomes: Sequence[Guessed]) -> None:
        """Add the outcomes' errors and moments."""
        if not outcomes:
            return
        values = np.array([(outcome.expected, outcome.predicted) for outcome in outcomes], np.float64)
        errors = values[:, 1] - values[:, 0]
        self.absolute += math.fsum(np.abs(errors))
        self.squared += math.fsum(errors**2)
        means = values.mean(0)
        self._add(len(values), means, (values - means).T @ (values - means))
        self._reach(values.min(0), values.max(0))

    def merge(self, other: Self) -> None:
        """Add the other's errors and moments."""
        self.absolute += other.absolute
        self.squared += other.squared
        if other.examples:
            self._add(other.examples, other.means, other.moments)
            self._reach(other.least, other.most)

    def _add(self, examples: int, means: Floats, moments: Floats) -> None:
        total = self.examples + examples
        apart = means - self.means
        self.moments = self.moments + moments + np.outer(apart, apart) * self.examples * examples / total
        self.means = self.means + apart * examples / total
        self.examples = total

    def _reach(self, least: Floats, most: Floats) -> None:
        self.least, self.most = np.minimum(self.least, least), np.maximum(self.most, most)

    def result(self) -> dict[str, float]:
        """Errors in the number's unit; correlations are not a number where nothing varies."""
        mse = mean(self.squared, self.examples)
        (of_expected, shared), (_, of_predicted) = np.where(self.least < self.most, self.moments, 0.0).tolist()
        both = math.sqrt(of_expected * of_predicted)
        return {
            "loss": mse,
            "mae": mean(self.absolute, self.examples),
            "rmse": math.sqrt(mse),
            "pearson": shared / both if both else math.nan,
            "r2": 1.0 - self.squared / of_expected if of_expected else math.nan,
        }
