"""Perplexity, of whatever is predicted: a figure where there is one, and no error where there is none."""

import math

import pytest

from pretune_trainer.metrics.likelihood import Likelihood, Perplexity
from pretune_trainer.metrics.recovery import Recovery, Tally


@pytest.mark.parametrize(
    ("loss", "perplexity"), [(0.0, 1.0), (math.log(8) * 10, 8.0), (1e6, math.inf), (math.inf, math.inf)]
)
def test_it_is_the_exponential_of_the_mean_loss(loss: float, perplexity: float) -> None:
    likely, found = Perplexity(), Recovery()
    likely.update([Likelihood(loss, targets=10, size=20)])
    found.update([Tally(loss, right=0, targets=10)])
    assert likely.result()["perplexity"] == pytest.approx(perplexity)
    assert found.result()["perplexity"] == pytest.approx(perplexity)


def test_where_nothing_was_predicted_it_is_not_a_number() -> None:
    assert math.isnan(Perplexity().result()["perplexity"])
    assert math.isnan(Recovery().result()["perplexity"])
