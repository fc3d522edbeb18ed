"""Figures and times as people read them."""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from pretune_trainer.metrics.slices import TEST

_LARGE: Final = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k"))
"""Small counts are written out."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_OF_PART: Final = re.compile(r"^(\w+)(?:\[(.+)\]|/(.+))$")
_HEADLINE: Final = (
    *("loss", "perplexity", "f1", "accuracy", "f1Macro", "nextSentenceAccuracy", "pearson", "rmse", "rougeL", "bleu"),
    *("wer", "rewardAccuracy", "recallAt1", "mrrAt10", "imageToTextRecallAt1", "textToImageRecallAt1"),
    "zeroShotAccuracy",
)
"""By what a task is judged, of the many figures that some have."""

FIRST_EXAMPLE: Final = "the first training example as the model sees it, what is learned in ⟦ ⟧"
"""Heading of the example that is shown when training begins."""


def headline(metrics: Mapping[str, float], asked: Sequence[str] | None) -> dict[str, float]:
    """The figures to know first, those of everything: what a job has `asked` for, else what its task is judged by;
    those of the test last."""
    names = asked or _HEADLINE
    return {name: metrics[name] for name in (*names, *(f"{TEST}{name}" for name in names)) if name in metrics}


def of_part(metric: str) -> tuple[str, str] | None:
    """Metric and label of recall[cat], metric and slice of loss/language=de; None of a figure of everything."""
    found = _OF_PART.match(metric)
    return (found[1], found[2] or found[3]) if found else None


def harmless(text: str) -> str:
    """The text with escapes in place of characters that a terminal obeys: pods of others may have said it."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def figure(value: float) -> str:
    """Four digits that count: 0.9137, 12.35, 1,234."""
    if not math.isfinite(value):
        return "not finite"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def amount(value: float) -> str:
    """A count in short: 950, 9,500, 12.5k, 3.2M."""
    shown = float(f"{value:.3g}")  # 999,999 are 1M, and not 1e+03k
    for unit, name in _LARGE:
        if abs(shown) >= unit:
            unit = 1e3 if name == "k" else unit
            return f"{shown / unit:.3g}{name}"
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def moment(when: datetime) -> str:
    """2026-11-21 13:05 UTC."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
