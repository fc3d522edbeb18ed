"""A task's figures over all that is judged, and over each slice of it: a language, an accent, a group of people."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from pretune_trainer.metrics.base import Metric

_BETWEEN: Final = "/"
"""Stands between a figure's name and its slice; the names of metrics have none."""
_OF_LABEL: Final = "["
"""Begins the label that a figure is about; slices have no such figures, which would be too many."""
_ALL: Final = ""
TEST: Final = "test_"
"""Begins the names of the figures of the test data; those of the validation data have no such word."""

Metrics = list[Metric[Any]]


def metric_of(figure: str) -> str:
    """The figure without its slice: perplexity, of perplexity/language=de."""
    return figure.partition(_BETWEEN)[0] if is_sliced(figure) else figure


def is_sliced(figure: str) -> bool:
    """Whether the figure is that of a slice; f1[a/b] is that of a label."""
    return _BETWEEN in figure.partition(_OF_LABEL)[0]


def is_of_label(figure: str) -> bool:
    """Whether the figure is about one label: recall[spam]."""
    return _OF_LABEL in figure


class Sliced:
    """Metrics by slice."""

    def __init__(self, new: Callable[[], Metrics]) -> None:
        """`new` makes metrics that have seen nothing."""
        self._new = new
        self.by_slice: dict[str, Metrics] = {_ALL: new()}
        """Those of everything come first."""

    @property
    def overall(self) -> Metrics:
        """Metrics of everything."""
        return self.by_slice[_ALL]

    def update(self, outcomes: Sequence[Any], slices: Sequence[str]) -> None:
        """Take in the outcomes of a batch, which all belong to these slices."""
        for name in (_ALL, *slices):
            if name not in self.by_slice:
                self.by_slice[name] = self._new()
            for metric in self.by_slice[name]:
                metric.update(outcomes)

    def merge(self, others: Mapping[str, Metrics]) -> None:
        """Take in what another rank has measured in the same slices."""
        for name, metrics in self.by_slice.items():
            for metric, other in zip(metrics, others[name], strict=True):
                metric.merge(other)

    def result(self) -> dict[str, float]:
        """Figures by name, such as {"loss": 2.1, "loss/language=de": 2.3}."""
        figures = dict(_figures(self.overall))
        for name, metrics in self.by_slice.items():
            if name != _ALL:
                found = {each: value for each, value in _figures(metrics) if _OF_LABEL not in each}
                figures |= {f"{each}{_BETWEEN}{name}": value for each, value in found.items()}
        return figures


def _figures(metrics: Metrics) -> Iterator[tuple[str, float]]:
    for metric in metrics:
        yield from metric.result().items()
