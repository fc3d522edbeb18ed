"""A metric whose outcomes lie on several ranks."""

from collections.abc import Callable, Sequence
from typing import Any

from pretune_trainer.metrics.base import Metric


def over_ranks(new: Callable[[], Metric[Any]], *parts: Sequence[Any]) -> dict[str, float]:
    """The figures of all parts, each of which another rank has seen."""
    first, *others = metrics = [new() for _ in parts]
    for metric, part in zip(metrics, parts, strict=True):
        metric.update(part)
    for other in others:
        first.merge(other)
    return first.result()
