"""What is drawn over the steps: which curves there are, thinned to what a screen can show."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pretune_cli.formatting import of_part
from pretune_cli.report.history import Floats, TrainingHistory

_POINTS: Final = 240
"""Of a curve at most: each stands for the mean of its steps."""
_METRICS: Final = 12
"""Metrics of the validation data that get a chart of their own, where they were measured more than once."""
LOSS: Final = "loss"

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Line:
    """A figure over the steps."""

    name: str
    """What it is, among the lines of its chart."""
    steps: Floats
    values: Floats
    lowest: Floats
    """The least of the values that a point stands for."""
    highest: Floats
    """The greatest."""
    marked: bool = False
    """Whether each point is one measurement, to be shown as such."""


@dataclass(frozen=True)
class Chart:
    """Lines that share their axes."""

    title: str
    lines: tuple[Line, ...]
    resumed_at: tuple[int, ...] = ()
    """Steps from which later runs went on."""


def charts(history: TrainingHistory, unit: str) -> list[Chart]:
    """All charts of a training that have anything to show; `unit` is what it counts, such as tokens."""
    resumed = tuple(history.resumed_at)
    known = ((title, tuple(line for line in lines if len(line.steps))) for title, lines in _all(history, unit))
    return [Chart(title, lines, resumed) for title, lines in known if lines]


def _all(history: TrainingHistory, unit: str) -> Iterator[tuple[str, list[Line]]]:
    measured = list(dict.fromkeys(name for figures in history.evaluations.values() for name in figures))
    judged = [_evaluated(history, LOSS, "validation")] if LOSS in measured else []
    yield "Loss", [_averaged("training", history, history.steps["loss"]), *judged]
    whole = [name for name in measured if name != LOSS and not of_part(name)]
    several = (line for name in whole if len((line := _evaluated(history, name, name)).steps) > 1)
    for line in islice(several, _METRICS):
        yield line.name, [line]
    yield "Learning rate", [_averaged("learning rate", history, history.steps["learning_rate"])]
    yield f"{unit.capitalize()} per second", [_rate(f"{unit}/s", history, history.steps["tokens"])]
    yield "Share of time waiting for data", [_rate("waiting", history, history.steps["data_wait_seconds"])]
    yield "Gradient norm", [_averaged("gradient norm", history, history.steps["grad_norm"])]
    yield "Model FLOPs utilization", [_averaged("MFU", history, history.steps["mfu"])]


def _evaluated(history: TrainingHistory, metric: str, name: str) -> Line:
    found = {step: figures[metric] for step, figures in sorted(history.evaluations.items()) if metric in figures}
    steps, values = np.array([*found], np.float64), np.array([*found.values()], np.float64)
    known = np.isfinite(values)
    values = values[known]
    return Line(name, steps[known], values, values, values, marked=True)


def _averaged(name: str, history: TrainingHistory, values: Floats) -> Line:
    known = np.isfinite(values)
    steps, values = history.steps["step"][known], values[known]
    starts, sizes = _parts(len(steps))
    if not len(starts):
        return Line(name, steps, values, values, values)
    return Line(
        name,
        steps[starts + sizes - 1],
        np.add.reduceat(values, starts) / sizes,
        np.minimum.reduceat(values, starts),
        np.maximum.reduceat(values, starts),
    )


def _rate(name: str, history: TrainingHistory, amounts: Floats) -> Line:
    """`amounts` per second: sums over each part, as the mean of rates would favour short steps."""
    steps = history.steps["step"]
    starts, sizes = _parts(len(steps))
    if not len(starts):
        return Line(name, steps, amounts, amounts, amounts)
    seconds = np.maximum(np.add.reduceat(history.steps["seconds"], starts), 1e-9)
    values = np.add.reduceat(amounts, starts) / seconds
    return Line(name, steps[starts + sizes - 1], values, values, values)


def _parts(count: int) -> tuple[Whole, Whole]:
    """Where `count` values are cut into parts, and how many are in each."""
    edges = np.linspace(0, count, min(count, _POINTS) + 1).astype(np.int64)
    return edges[:-1], np.diff(edges)
