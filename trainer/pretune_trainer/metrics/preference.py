"""Whether preferred answers are the likelier ones, compared with a reference."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from pretune_trainer.metrics.base import Metric, mean


@dataclass(frozen=True)
class Preferred:
    """What a model makes of two answers to one prompt."""

    chosen: float
    """Log-probability of the one that is preferred."""
    rejected: float
    """Log-probability of the other."""
    margin: float
    """How much the model's reward of the one is above that of the other; beta times log-probability ratios."""
    loss: float
    """-log sigmoid(margin)."""


class Rewards(Metric[Preferred]):
    """Mean loss and margin, and how often the preferred answer has the larger reward."""

    known = {"loss": False, "rewardAccuracy": True, "rewardMargin": True}

    def __init__(self) -> None:
        self.pairs = 0
        self.loss = 0.0
        self.margin = 0.0
        self.right = 0

    def update(self, outcomes: Sequence[Preferred]) -> None:
        """Add the outcomes' sums."""
        self.pairs += len(outcomes)
        self.loss += math.fsum(outcome.loss for outcome in outcomes)
        self.margin += math.fsum(outcome.margin for outcome in outcomes)
        self.right += sum(outcome.margin > 0.0 for outcome in outcomes)

    def merge(self, other: Self) -> None:
        """Add the other's sums."""
        self.pairs += other.pairs
        self.loss += other.loss
        self.margin += other.margin
        self.right += other.right

    def result(self) -> dict[str, float]:
        """loss, rewardAccuracy and rewardMargin over all pairs."""
        sums = {"loss": self.loss, "rewardAccuracy": self.right, "rewardMargin": self.margin}
        return {name: mean(total, self.pairs) for name, total in sums.items()}
