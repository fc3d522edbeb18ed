"""A task's figures over all that is judged, and over each slice of it: a language, an accent, a group of people."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pretune_trainer.metrics.base import Metric

_BETWEEN: Final = "/"
"""Stands between a figure's name and its slice; the names of figures have none."""
_ALL: Final = ""

Metrics = list[Metric[Any]]


def metric_of(figure: str) -> str:
    """The metric that a figure is one of: perplexity, of perplexity/language=de."""
    return figure.partition(_BETWEEN)[0]


def is_sliced(figure: str) -> bool:
    """Whether a figure is that of a slice."""
    return _BETWEEN in figure


class Sliced:
    """Metrics by slice; those of everything first."""

    def __init__(self, new: Callable[[], Metrics]) -> None:
        """`new` makes metrics that have seen nothing."""
        self._new = new
        self.by_slice: dict[str, Metrics] = {_ALL: new()}

    def update(self, outcomes: Sequence[Any], slices: Sequence[str]) -> None:
        """Take in the outcomes of a batch, which all belong to these slices."""
        for name in (_ALL, *slices):
            for metric in self.by_slice.setdefault(name, self._new()):
                metric.update(outcomes)

    def merge(self, others: Mapping[str, Metrics]) -> None:
        """Take in what another rank has measured in the same slices."""
        for name, metrics in self.by_slice.items():
            for metric, other in zip(metrics, others[name], strict=True):
                metric.merge(other)

    def result(self) -> dict[str, float]:
        """Figures by name, such as {"loss": 2.1, "loss/language=de": 2.3}."""
        return {
            name + (f"{_BETWEEN}{slice_}" if slice_ else ""): value
            for slice_, metrics in self.by_slice.items()
            for metric in metrics
            for name, value in metric.result().items()
        }
