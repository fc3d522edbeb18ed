"""How probable the validation data is to a language model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from pretune_trainer.metrics.base import Metric


@dataclass(frozen=True)
class Likelihood:
    """How probable a batch was."""

    loss: float
    """Summed negative log-likelihood, in nats."""
    targets: int
    """Tokens predicted."""


class Perplexity(Metric[Likelihood]):
    """Mean loss per token, and its exponential."""

    known: ClassVar[Mapping[str, bool]] = {"loss": False, "perplexity": False}
    """Names of the figures, and whether larger is better."""

    def __init__(self) -> None:
        self.loss = 0.0
        self.targets = 0

    def update(self, outcomes: Sequence[Likelihood]) -> None:
        """Add the outcomes' sums."""
        self.loss += math.fsum(outcome.loss for outcome in outcomes)
        self.targets += sum(outcome.targets for outcome in outcomes)

    def merge(self, other: Self) -> None:
        """Add the other's sums."""
        self.loss += other.loss
        self.targets += other.targets

    def result(self) -> dict[str, float]:
        """loss in nats per token, perplexity."""
        mean = self.loss / self.targets if self.targets else math.nan
        return {"loss": mean, "perplexity": math.exp(mean) if mean < 700 else math.inf}
