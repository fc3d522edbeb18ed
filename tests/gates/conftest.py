"""What gates measure is told at the end of `make gates`, and kept in .bench/gates.xml."""

from collections import Counter
from collections.abc import Callable, Mapping

import pytest

from support.measured import Measured


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    """Takes the figures of a gate, whether it then passes or not."""

    def keep(figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            record_property(name, f"{value:.4g}")

    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each gate: its seconds, those of its parents with the first that needs them, and its figures."""
    stats = terminalreporter.stats.values()
    reports = [report for kind in stats for report in kind if isinstance(report, pytest.TestReport)]
    seconds: Counter[str] = Counter()
    for report in reports:
        seconds[report.nodeid] += report.duration
    for report in reports:
        if report.when == "call":
            figures = ", ".join(f"{name} {value}" for name, value in report.user_properties)
            terminalreporter.write_line(f"{report.nodeid}: {seconds[report.nodeid]:.0f} s: {figures}")
