"""The metrics that operator and trainer expose, as PromQL names them."""

import re
from collections.abc import Iterator

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from pretune_operator import metrics
from pretune_trainer.drive.prometheus import TrainMetrics

_ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}


def unknown_metrics(text: str) -> set[str]:
    """Names in a query, or in a rule, that look like ours and are not."""
    return set(re.findall(r"(?<![:\w])pretune_\w+", text)) - known_metrics()


def known_metrics() -> set[str]:
    """Every name under which a value of ours is found."""
    return {f"{family.name}{end}" for family in _families() for end in _ENDINGS.get(family.type, ("",))}


def _families() -> Iterator[Metric]:
    yield from TrainMetrics().registry.collect()
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            yield from metric.describe()
