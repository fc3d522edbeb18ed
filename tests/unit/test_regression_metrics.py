"""Errors and correlations are those of scikit-learn and SciPy, however the data is split over batches and ranks."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from pretune_trainer.metrics.regression import Guessed, RegressionReport


def outcomes(offset: float = 0.0) -> list[Guessed]:
    random = np.random.default_rng(5)
    expected = random.normal(offset, 2.0, 300)
    predicted = 0.7 * expected + random.normal(0.0, 1.0, 300)
    return [Guessed(right, said) for right, said in zip(expected.tolist(), predicted.tolist(), strict=True)]


def report(outcomes: Sequence[Guessed]) -> RegressionReport:
    metric = RegressionReport()
    metric.update(outcomes)
    return metric


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_figures_are_those_of_scikit_learn_and_scipy(offset: float) -> None:
    expected, predicted = zip(*((each.expected, each.predicted) for each in outcomes(offset)), strict=True)
    rmse = root_mean_squared_error(expected, predicted)
    theirs = {
        "loss": rmse**2,
        "mae": mean_absolute_error(expected, predicted),
        "rmse": rmse,
        "pearson": pearsonr(expected, predicted).statistic,
        "r2": r2_score(expected, predicted),
    }
    assert report(outcomes(offset)).result() == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("cuts", [(0, 0), (1, 2), (100, 300), (299, 300)])
def test_figures_are_the_same_however_they_are_split(cuts: tuple[int, int]) -> None:
    every = outcomes()
    split, other = report(every[: cuts[0]]), report(every[cuts[1] :])
    split.update(every[cuts[0] : cuts[1]])
    split.merge(other)
    assert split.result() == pytest.approx(report(every).result(), rel=1e-9)


def test_ranks_without_examples_change_nothing() -> None:
    split = report([])
    split.merge(report([]))
    split.merge(report(outcomes()))
    assert split.result() == report(outcomes()).result()


@pytest.mark.parametrize("same", [1.0, 0.1])  # of three times 0.1 the mean is another number
def test_what_does_not_vary_correlates_with_nothing(same: float) -> None:
    expected = report([Guessed(same, same + number) for number in (1.0, 1.5, 2.0)])
    expected.merge(report([Guessed(same, same + 1.5)]))
    figures = expected.result()
    assert math.isnan(figures["pearson"])
    assert math.isnan(figures["r2"])
    assert figures["mae"] == 1.5
    predicted = report([Guessed(number, same) for number in (1.0, 1.5, 3.0)]).result()
    assert math.isnan(predicted["pearson"])
    assert math.isfinite(predicted["r2"])


def test_every_figure_that_can_be_asked_for_is_measured() -> None:
    assert RegressionReport.known.keys() == RegressionReport().result().keys()
