"""Line charts as inline SVG: nothing is fetched, colours are the page's, and they can be read on a phone."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pretune_cli.formatting import amount, figure
from pretune_cli.report.curves import Chart, Line
from pretune_cli.report.html import Html, element, join

# A phone is about as wide: text is never shrunk.
_WIDTH: Final = 360
_HEIGHT: Final = 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 342, 8, 166
_TICKS: Final = 4
_AIR: Final = 0.05
"""Share of the height that is left free above and below the curves."""


@dataclass(frozen=True)
class _Axes:
    """From figures to places in the picture."""

    last: float
    """The last step."""
    low: float
    high: float

    def x(self, step: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * step / self.last

    def y(self, value: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (value - self.low) / (self.high - self.low)


def draw(chart: Chart) -> Html:
    """The chart with its title, its legend, and the figures that page.js shows under a finger."""
    axes = _axes(chart.lines)
    picture = join(
        *_grid(axes),
        *(_break(axes, step) for step in chart.resumed_at),
        *(join(*_line(axes, line, number)) for number, line in enumerate(chart.lines, 1)),
        element("line", class_="cursor", y1=_TOP, y2=_BOTTOM, visibility="hidden"),
    )
    svg = element("svg", picture, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=_summary(chart))
    caption = element("figcaption", element("b", chart.title), " ", *_legend(chart.lines), element("output"))
    return element(
        "figure",
        caption,
        svg,
        data_lines=_points(chart.lines),
        data_plot=json.dumps([_WIDTH, _LEFT, _RIGHT, axes.last]),
    )


def _ticks(low: float, high: float) -> list[float]:
    """A few round numbers from `low` to `high`."""
    rough = (high - low) / _TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _axes(lines: Iterable[Line]) -> _Axes:
    low = min(float(line.lowest.min()) for line in lines)
    high = max(float(line.highest.max()) for line in lines)
    air = (high - low) * _AIR or abs(high) * _AIR or 1.0
    floor = low - air if low < 0 else max(0.0, low - air)
    return _Axes(max(1.0, *(float(line.steps[-1]) for line in lines)), floor, high + air)


def _grid(axes: _Axes) -> Iterable[Html]:
    for value in _ticks(axes.low, axes.high):
        y = f"{axes.y(value):.1f}"
        yield element("line", class_="grid", x1=_LEFT, x2=_RIGHT, y1=y, y2=y)
        yield element("text", _tick(value), x=_LEFT - 6, y=y, dy="0.32em", text_anchor="end")
    for step in _ticks(0, axes.last):
        yield element("text", amount(step), x=f"{axes.x(step):.1f}", y=_BOTTOM + 17, text_anchor="middle")


def _tick(value: float) -> str:
    if abs(value) >= 1000:
        return amount(value)
    return f"{value:.0e}".replace("e-0", "e-") if 0 < abs(value) < 1e-3 else f"{value:.4g}"


def _break(axes: _Axes, step: int) -> Html:
    x = f"{axes.x(step):.1f}"
    said = element("title", f"a later run resumed from step {step}")
    return element("line", said, class_="resumed", x1=x, x2=x, y1=_TOP, y2=_BOTTOM)


def _line(axes: _Axes, line: Line, number: int) -> Iterable[Html]:
    if (line.highest > line.lowest).any():
        there = _path(axes, line.steps.tolist(), line.highest.tolist())
        back = _path(axes, line.steps.tolist()[::-1], line.lowest.tolist()[::-1])
        yield element("path", class_=f"band line{number}", d=f"M{there}L{back}Z")
    yield element("path", class_=f"line line{number}", d=f"M{_path(axes, line.steps.tolist(), line.values.tolist())}")
    if line.marked or len(line.steps) == 1:
        for step, value in zip(line.steps.tolist(), line.values.tolist(), strict=True):
            place = {"cx": f"{axes.x(step):.1f}", "cy": f"{axes.y(value):.1f}"}
            yield element("circle", class_=f"mark line{number}", r=3, **place)


def _path(axes: _Axes, steps: Iterable[float], values: Iterable[float]) -> str:
    places = (f"{axes.x(step):.1f} {axes.y(value):.1f}" for step, value in zip(steps, values, strict=True))
    return "L".join(places)


def _legend(lines: tuple[Line, ...]) -> Iterable[Html]:
    if len(lines) > 1:
        for number, line in enumerate(lines, 1):
            yield element("span", line.name, class_=f"key line{number}")


def _summary(chart: Chart) -> str:
    ends = ", ".join(f"{line.name} {figure(float(line.values[-1]))}" for line in chart.lines)
    return f"{chart.title} over the steps; at the end {ends}"


def _points(lines: Iterable[Line]) -> str:
    def pairs(line: Line) -> list[tuple[int, str]]:
        return [
            (int(step), figure(value)) for step, value in zip(line.steps.tolist(), line.values.tolist(), strict=True)
        ]

    return json.dumps([[line.name, pairs(line)] for line in lines], separators=(",", ":"))
