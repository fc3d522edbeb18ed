"""Figures are those of scikit-learn, whatever the data and however it is split over batches and ranks."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    matthews_corrcoef,
    precision_recall_fscore_support,
)

from pretune_trainer.metrics.base import Metric
from pretune_trainer.metrics.classification import ClassificationReport, Judged
from pretune_trainer.metrics.likelihood import Likelihood, Perplexity

LABELS = ["bug", "idea", "praise", "spam"]

numbers = st.integers(0, len(LABELS) - 1)
losses = st.floats(0, 20)
one_label = st.builds(lambda right, said, loss: Judged((right,), (said,), loss), numbers, numbers, losses)
label_sets = st.lists(numbers, unique=True).map(tuple)
many_labels = st.builds(Judged, label_sets, label_sets, losses)
likelihoods = st.builds(Likelihood, st.floats(0, 1e4), st.integers(1, 100), st.integers(1, 400))


def report(outcomes: Sequence[Judged], *, several: bool = False) -> dict[str, float]:
    metric = ClassificationReport(LABELS, several=several)
    metric.update(outcomes)
    return metric.result()


def by_scikit_learn(expected: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    every = list(range(len(LABELS)))
    figures = {
        "accuracy": accuracy_score(expected, predicted),
        "balancedAccuracy": balanced_accuracy_score(expected.ravel(), predicted.ravel()),
        "mcc": matthews_corrcoef(expected.ravel(), predicted.ravel()),
    }
    for average, suffixes in (
        (None, [f"[{label}]" for label in LABELS]),
        ("macro", ["Macro"]),
        ("weighted", ["Weighted"]),
    ):
        scores = precision_recall_fscore_support(expected, predicted, labels=every, average=average, zero_division=0)
        for name, values in zip(("precision", "recall", "f1"), scores, strict=False):
            figures |= {f"{name}{suffix}": value for suffix, value in zip(suffixes, np.atleast_1d(values), strict=True)}
    return figures


def indicators(label_sets: Sequence[tuple[int, ...]]) -> np.ndarray:
    table = np.zeros((len(label_sets), len(LABELS)), int)
    for row, chosen in enumerate(label_sets):
        table[row, list(chosen)] = 1
    return table


def without_loss(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if name != "loss"}


@given(st.lists(one_label, min_size=1, max_size=30))
def test_figures_of_one_label_per_text_are_scikit_learn_s(outcomes: list[Judged]) -> None:
    expected = np.array([outcome.expected[0] for outcome in outcomes])
    predicted = np.array([outcome.predicted[0] for outcome in outcomes])
    assert without_loss(report(outcomes)) == pytest.approx(by_scikit_learn(expected, predicted))


@given(st.lists(many_labels, min_size=1, max_size=30))
def test_figures_of_several_labels_per_text_are_scikit_learn_s(outcomes: list[Judged]) -> None:
    expected = indicators([outcome.expected for outcome in outcomes])
    predicted = indicators([outcome.predicted for outcome in outcomes])
    assert without_loss(report(outcomes, several=True)) == pytest.approx(by_scikit_learn(expected, predicted))


def in_parts(
    whole: Metric[Any], part: Metric[Any], outcomes: Sequence[object], cuts: Sequence[int]
) -> dict[str, float]:
    """The figures when the first outcomes are seen in batches, and another rank sees the last ones."""
    first, second, third = np.split(np.arange(len(outcomes)), sorted(cut % (len(outcomes) + 1) for cut in cuts))
    whole.update([outcomes[at] for at in first])
    whole.update([outcomes[at] for at in second])
    part.update([outcomes[at] for at in third])
    whole.merge(part)
    return whole.result()


cut_pairs = st.tuples(st.integers(0, 99), st.integers(0, 99))


def outcomes_of(several: bool) -> st.SearchStrategy[tuple[list[Judged], bool]]:
    outcomes = st.lists(many_labels if several else one_label, min_size=1, max_size=30)
    return st.tuples(outcomes, st.just(several))


@given(outcomes_of(False) | outcomes_of(True), cut_pairs)
def test_a_classification_is_judged_alike_however_it_is_split(
    drawn: tuple[list[Judged], bool], cuts: tuple[int, int]
) -> None:
    outcomes, several = drawn
    one, other = (ClassificationReport(LABELS, several=several) for _ in range(2))
    split = in_parts(one, other, outcomes, cuts)
    assert split == pytest.approx(report(outcomes, several=several))
    assert split["loss"] == pytest.approx(np.mean([outcome.loss for outcome in outcomes]))


@given(st.lists(likelihoods, min_size=1, max_size=30), cut_pairs)
def test_perplexity_is_that_of_all_tokens_however_they_are_split(
    outcomes: list[Likelihood], cuts: tuple[int, int]
) -> None:
    split = in_parts(Perplexity(), Perplexity(), outcomes, cuts)
    mean = sum(outcome.loss for outcome in outcomes) / sum(outcome.targets for outcome in outcomes)
    assert split["loss"] == pytest.approx(mean)
    assert split["perplexity"] == (pytest.approx(math.exp(mean)) if mean < 700 else math.inf)
    per_byte = split["loss"] * sum(each.targets for each in outcomes) / sum(each.size for each in outcomes)
    assert split["perplexityPerByte"] == (pytest.approx(math.exp(per_byte)) if per_byte < 700 else math.inf)


def test_every_figure_that_can_be_asked_for_is_measured() -> None:
    assert ClassificationReport.known.keys() <= report([Judged((0,), (1,), 0.5)]).keys()
    assert Perplexity.known.keys() == Perplexity().result().keys()
