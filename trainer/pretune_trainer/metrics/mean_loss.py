"""The loss, where there is nothing else to measure."""

import math
from collections.abc import Sequence
from typing import Self

from pretune_trainer.metrics.base import Metric, mean


class MeanLoss(Metric[float]):
    """The mean of the examples' losses."""

    known = {"loss": False}

    def __init__(self) -> None:
        self.loss = 0.0
        self.examples = 0

    def update(self, outcomes: Sequence[float]) -> None:
        """Add the examples' losses."""
        self.loss += math.fsum(outcomes)
        self.examples += len(outcomes)

    def merge(self, other: Self) -> None:
        """Add the other's losses."""
        self.loss += other.loss
        self.examples += other.examples

    def result(self) -> dict[str, float]:
        """The loss."""
        return {"loss": mean(self.loss, self.examples)}
