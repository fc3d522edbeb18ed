"""What a model writes: how probable the right text is to it, and how much of that its own text has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from pretune_trainer.metrics.base import Metric
from pretune_trainer.metrics.exhibits import Exhibits, Samples
from pretune_trainer.metrics.likelihood import Likelihood, Perplexity
from pretune_trainer.metrics.overlap import OverlapReport, Written


@dataclass(frozen=True)
class Draft:
    """What a model made of a batch."""

    likelihood: Likelihood
    """Of the right texts."""
    written: tuple[Written, ...]
    """Its own."""


class WritingReport(Metric[Draft]):
    """Perplexity of what is wanted, overlap of what is written."""

    known = {**Perplexity.known, **OverlapReport.known}

    def __init__(self) -> None:
        self.perplexity = Perplexity()
        self.overlap = OverlapReport()
        self.samples = Samples()

    def update(self, outcomes: Sequence[Draft]) -> None:
        """Take in the outcomes."""
        self.perplexity.update([outcome.likelihood for outcome in outcomes])
        for outcome in outcomes:
            self.overlap.update(outcome.written)
            for text in outcome.written:
                self.samples.add(text.reference, text.text)

    def merge(self, other: Self) -> None:
        """Take in the other's."""
        self.perplexity.merge(other.perplexity)
        self.overlap.merge(other.overlap)
        self.samples.merge(other.samples)

    def result(self) -> dict[str, float]:
        """All figures."""
        return self.perplexity.result() | self.overlap.result()

    def exhibits(self) -> Exhibits:
        """Some of what was written."""
        return Exhibits(samples=self.samples.chosen())
