"""What a metric is."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic, Self, TypeVar

from pretune_trainer.metrics.exhibits import Exhibits

Outcome = TypeVar("Outcome")


class Metric(ABC, Generic[Outcome]):
    """Something measured on the outcomes of a whole evaluation: counts and sums, or what is as small beside logits."""

    known: ClassVar[Mapping[str, bool]]
    """Names of the figures, and whether larger is better."""

    @abstractmethod
    def update(self, outcomes: Sequence[Outcome]) -> None:
        """Take in the outcomes of a batch."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Take in what another rank has measured."""

    @abstractmethod
    def result(self) -> dict[str, float]:
        """Figures by name, such as {"f1Macro": 0.7}."""

    def exhibits(self) -> Exhibits:
        """What there is to look at beside the figures."""
        return Exhibits()


def mean(total: float, count: int) -> float:
    """`total / count`; not a number where nothing was counted."""
    return total / count if count else math.nan
