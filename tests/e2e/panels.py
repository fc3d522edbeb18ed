"""The chart's dashboards, as Grafana would ask Prometheus for them."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from e2e.cluster.prometheus import SCRAPE_SECONDS, Prometheus
from e2e.release import CHART
from e2e.world import Document

DASHBOARDS = CHART / "files/dashboards"
ONLY_WITH_A_PEAK = ["job: Model FLOPs utilization"]
"""Places without data where training runs on CPUs: they have no peak of arithmetic that use could be compared with."""
_GRAFANA = {"__rate_interval": "20s", "__range": "5m"}
"""What Grafana replaces by itself."""


@dataclass(frozen=True)
class Asked:
    """What a dashboard asks for."""

    place: str
    """The dashboard, and the panel, annotation or variable."""
    expr: str


def queries(name: str, chosen: dict[str, str]) -> Iterator[Asked]:
    """Every query of a dashboard, with these values of its variables."""
    dashboard = json.loads((DASHBOARDS / f"{name}.json").read_text())
    for place, expr in _written(dashboard):
        yield Asked(f"{name}: {place}", _replaced(expr, chosen | _GRAFANA))


def without_data(prometheus: Prometheus, asked: Iterator[Asked], start: float, end: float) -> list[str]:
    """The places of queries that find no number between two Unix times. Raises ValueError as `query_range` does."""
    last = end + SCRAPE_SECONDS
    return [query.place for query in asked if not _has_data(prometheus.query_range(query.expr, start, last))]


def _written(dashboard: Document) -> Iterator[tuple[str, str]]:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in dashboard["annotations"].get("list", []):
        yield f"annotation {annotation['name']}", annotation["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            # Grafana lists the values of a label; that there are any is what counts here.
            values = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert values, variable["query"]
            yield f"variable {variable['name']}", f"count by ({values[2]}) ({values[1]})"


def _replaced(expr: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        expr = expr.replace(f"${name}", value)
    assert "$" not in expr, f"{expr}: a variable has no value"
    return expr


def _has_data(series: list[Document]) -> bool:
    return any(value != "NaN" for found in series for _, value in found["values"])
