"""How probable the validation data is to a language model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from pretune_trainer.metrics.base import Metric, mean

_LARGEST: Final = 700.0
"""Loss in nats whose exponential is about the largest number that there is."""


@dataclass(frozen=True)
class Likelihood:
    """How probable a batch was."""

    loss: float
    """Summed negative log-likelihood, in nats."""
    targets: int
    """Tokens predicted."""
    size: int
    """Bytes of text, in UTF-8, that these tokens stand for."""


class Perplexity(Metric[Likelihood]):
    """Mean loss per token, and its exponential; the same per byte, which compares models of different vocabularies."""

    known = {"loss": False, "perplexity": False, "perplexityPerByte": False}

    def __init__(self) -> None:
        self.loss = 0.0
        self.targets = 0
        self.size = 0

    def update(self, outcomes: Sequence[Likelihood]) -> None:
        """Add the outcomes' sums."""
        self.loss += math.fsum(outcome.loss for outcome in outcomes)
        self.targets += sum(outcome.targets for outcome in outcomes)
        self.size += sum(outcome.size for outcome in outcomes)

    def merge(self, other: Self) -> None:
        """Add the other's sums."""
        self.loss += other.loss
        self.targets += other.targets
        self.size += other.size

    def result(self) -> dict[str, float]:
        """loss in nats per token, perplexity, perplexity per byte."""
        per_token, per_byte = mean(self.loss, self.targets), mean(self.loss, self.size)
        return {"loss": per_token, "perplexity": perplexity(per_token), "perplexityPerByte": perplexity(per_byte)}


def perplexity(loss: float) -> float:
    """The exponential of a mean loss in nats; infinite where that is too large, not a number where the loss is none."""
    return math.inf if loss > _LARGEST else math.exp(loss)
