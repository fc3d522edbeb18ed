"""What a test measures: for the table "Quality gates" in README.md, and for whoever wants to know."""

from collections import defaultdict
from collections.abc import Callable, Mapping

import pytest

Measured = Callable[[Mapping[str, float]], None]
"""Takes figures by name."""


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    """Takes the figures of a test, whether it then passes or not."""

    def keep(figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            record_property(name, f"{value:.4g}")

    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each test that measures: its figures, and its seconds with those of what it is the first to need."""
    stats = terminalreporter.stats.values()
    reports = [report for kind in stats for report in kind if isinstance(report, pytest.TestReport)]
    seconds: dict[str, float] = defaultdict(float)
    for report in reports:
        seconds[report.nodeid] += report.duration
    for report in reports:
        if report.when == "call" and report.user_properties:
            figures = ", ".join(f"{name} {value}" for name, value in report.user_properties)
            terminalreporter.write_line(f"{report.nodeid}: {seconds[report.nodeid]:.0f} s: {figures}")
