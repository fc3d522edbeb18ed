"""How well a model finds what was hidden from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from pretune_trainer.metrics.base import Metric, mean
from pretune_trainer.metrics.likelihood import perplexity


@dataclass(frozen=True)
class Tally:
    """What a model made of the targets of one kind in a batch."""

    loss: float = 0.0
    """Summed negative log-likelihood, in nats."""
    right: int = 0
    """Targets whose likeliest value is the right one."""
    targets: int = 0
    """Number of targets."""

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.loss + other.loss, self.right + other.right, self.targets + other.targets)

    @property
    def mean(self) -> float:
        """Loss per target."""
        return mean(self.loss, self.targets)

    @property
    def accuracy(self) -> float:
        """Share of the targets that were right."""
        return mean(self.right, self.targets)


class Recovery(Metric[Tally]):
    """Loss, perplexity and accuracy of the tokens to find or write."""

    known = {"loss": False, "perplexity": False, "accuracy": True}

    def __init__(self) -> None:
        self.tokens = Tally()

    def update(self, outcomes: Sequence[Tally]) -> None:
        """Add the outcomes' sums."""
        self.tokens = sum(outcomes, self.tokens)

    def merge(self, other: Self) -> None:
        """Add the other's sums."""
        self.tokens += other.tokens

    def result(self) -> dict[str, float]:
        """loss in nats per token, perplexity, accuracy."""
        loss = self.tokens.mean
        return {"loss": loss, "perplexity": perplexity(loss), "accuracy": self.tokens.accuracy}


@dataclass(frozen=True)
class PairTally:
    """What a model made of a batch of pairs."""

    tokens: Tally
    """The tokens to find."""
    pairs: Tally | None = None
    """Whether the second segment follows; None where there are no pairs."""


class PairRecovery(Metric[PairTally]):
    """Recovery, and next-sentence prediction beside it where there are pairs."""

    of_tokens: ClassVar[Mapping[str, bool]] = Recovery.known
    """Names of the figures without pairs, and whether larger is better."""
    known = {**Recovery.known, "nextSentenceAccuracy": True}
    """Names of the figures with pairs."""

    def __init__(self) -> None:
        self.tokens = Recovery()
        self.pairs = Tally()

    def update(self, outcomes: Sequence[PairTally]) -> None:
        """Add the outcomes' sums."""
        self.tokens.update([outcome.tokens for outcome in outcomes])
        self.pairs = sum((outcome.pairs for outcome in outcomes if outcome.pairs is not None), self.pairs)

    def merge(self, other: Self) -> None:
        """Add the other's sums."""
        self.tokens.merge(other.tokens)
        self.pairs += other.pairs

    def result(self) -> dict[str, float]:
        """Those of the tokens; with pairs nextSentenceAccuracy too, and the loss is the sum of both means (BERT)."""
        figures = self.tokens.result()
        if not self.pairs.targets:
            return figures
        loss = figures["loss"] + self.pairs.mean
        return {**figures, "loss": loss, "nextSentenceAccuracy": self.pairs.accuracy}
