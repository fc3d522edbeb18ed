"""AUROC and calibration are scikit-learn's, whatever the data and however it is split over batches and ranks."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from pretune_trainer.metrics.classification import Judged
from pretune_trainer.metrics.confidence import Confidence
from pretune_trainer.tasks.judging import log_odds
from support.ranks import over_ranks

LABELS = 3
logits = st.lists(st.floats(-8, 8, width=16), min_size=LABELS, max_size=LABELS)
one_label = st.lists(st.tuples(st.integers(0, LABELS - 1), logits), min_size=2, max_size=40)
many_labels = st.lists(st.tuples(st.lists(st.integers(0, LABELS - 1), unique=True), logits), min_size=2, max_size=40)


def judged(drawn: Sequence[tuple[Any, list[float]]], *, several: bool) -> list[Judged]:
    odds = [row for _, row in drawn] if several else log_odds(torch.tensor([row for _, row in drawn])).tolist()
    return [
        Judged(tuple(right) if several else (right,), (), 0.0, row) for (right, _), row in zip(drawn, odds, strict=True)
    ]


def measured(outcomes: Sequence[Judged], *, several: bool, cut: int = 0) -> dict[str, float]:
    """The figures when another rank sees the outcomes before `cut`."""
    return over_ranks(lambda: Confidence(LABELS, several=several), outcomes[cut:], outcomes[:cut])


def truth(outcomes: Sequence[Judged]) -> np.ndarray:
    table = np.zeros((len(outcomes), LABELS), int)
    for row, outcome in zip(table, outcomes, strict=True):
        row[list(outcome.expected)] = 1
    return table


def area(outcomes: Sequence[Judged]) -> float:
    """scikit-learn's, of the scores as they are counted."""
    scores, right = np.array([outcome.log_odds for outcome in outcomes]).astype(np.float16), truth(outcomes)
    mixed = [label for label in range(LABELS) if 0 < right[:, label].sum() < len(right)]
    return np.mean([roc_auc_score(right[:, label], scores[:, label]) for label in mixed]) if mixed else math.nan


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """From the curve of scikit-learn."""
    shares, means = calibration_curve(right, confidence, n_bins=15)
    counts = np.bincount(np.searchsorted(np.linspace(0, 1, 16)[1:-1], confidence))
    return float(np.abs(shares - means) @ counts[counts > 0]) / len(right)


def sure(outcomes: Sequence[Judged]) -> NDArray[np.float64]:
    """The probability of each label, by each text."""
    sure: NDArray[np.float64] = 1 / (1 + np.exp(-np.array([outcome.log_odds for outcome in outcomes])))
    return sure


@given(one_label)
def test_figures_of_one_label_per_text_are_scikit_learn_s(drawn: list[tuple[int, list[float]]]) -> None:
    outcomes = judged(drawn, several=False)
    found = measured(outcomes, several=False)
    assert found["aurocMacro"] == pytest.approx(area(outcomes), nan_ok=True)
    probabilities = sure(outcomes)
    right = truth(outcomes)[np.arange(len(drawn)), probabilities.argmax(1)]
    assert found["calibrationError"] == pytest.approx(calibration_error(probabilities.max(1), right))


@given(many_labels)
def test_figures_of_several_labels_per_text_are_scikit_learn_s(drawn: list[tuple[list[int], list[float]]]) -> None:
    outcomes = judged(drawn, several=True)
    found = measured(outcomes, several=True)
    assert found["aurocMacro"] == pytest.approx(area(outcomes), nan_ok=True)
    odds = np.array([outcome.log_odds for outcome in outcomes]).ravel()
    right = (odds > 0) == truth(outcomes).ravel()
    confidence = 1 / (1 + np.exp(-np.abs(odds)))
    assert found["calibrationError"] == pytest.approx(calibration_error(confidence, right))


@given(one_label, st.integers(0, 99))
def test_confidence_is_judged_alike_however_it_is_split(drawn: list[tuple[int, list[float]]], cut: int) -> None:
    outcomes = judged(drawn, several=False)
    whole = measured(outcomes, several=False)
    split = measured(outcomes, several=False, cut=cut % (len(outcomes) + 1))
    assert split["aurocMacro"] == whole["aurocMacro"] or math.isnan(whole["aurocMacro"])
    assert split["calibrationError"] == pytest.approx(whole["calibrationError"], abs=1e-12)


def test_scores_that_are_no_numbers_put_nothing_in_order() -> None:
    outcomes = [Judged((number % LABELS,), (0,), math.nan, (math.nan,) * LABELS) for number in range(30)]
    assert all(map(math.isnan, measured(outcomes, several=False).values()))


def test_scores_are_rounded_too_little_for_anyone_to_see() -> None:
    random = np.random.default_rng(1)
    right = random.integers(0, LABELS, 5000)
    scores = random.normal(size=(5000, LABELS)) * 3 + np.eye(LABELS)[right]
    found = measured(judged(list(zip(right.tolist(), scores.tolist(), strict=True)), several=False), several=False)
    exact = roc_auc_score(right, torch.tensor(scores).softmax(-1).numpy(), multi_class="ovr")
    assert found["aurocMacro"] == pytest.approx(exact, abs=1e-5)


def test_log_odds_keep_their_precision_where_a_model_is_sure() -> None:
    found = log_odds(torch.tensor([[30.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    assert found[0, 0] == pytest.approx(30.0 - math.log(2))
    assert found[1].tolist() == pytest.approx([-math.log(1 + math.e), 1 - math.log(2), -math.log(1 + math.e)])
    assert torch.isfinite(found).all()
