"""Grafana's dashboards of the chart: `python tests/chart/generated.py` writes them into it."""

from collections.abc import Iterator

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from .fleet import fleet
from .job import job
from .operators import operator


def written() -> Iterator[tuple[str, str]]:
    """Each dashboard: its name, and its JSON."""
    encoder = JSONEncoder(sort_keys=True, indent=1)
    for make in (fleet, job, operator):
        yield make.__name__, encoder.encode(make()) + "\n"
