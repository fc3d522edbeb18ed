"""Entities are counted as seqeval counts them, whatever a model says and however it is split over batches and ranks."""

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import accuracy_score
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

from pretune_trainer.metrics.entities import EntityReport, Tagged, TagSet

TAGS = TagSet(("disease", "drug", "symptom"))

numbers = st.integers(0, len(TAGS.names) - 1)
texts = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12)
judged = st.lists(texts, min_size=1, max_size=8)


def outcome(text: Sequence[tuple[int, int]]) -> Tagged:
    expected, predicted = zip(*text, strict=True)
    return Tagged(expected, predicted, float(len(text)))


def report(outcomes: Sequence[Tagged]) -> EntityReport:
    metric = EntityReport(TAGS.labels)
    metric.update(outcomes)
    return metric


def by_seqeval(outcomes: Sequence[Tagged]) -> dict[str, float]:
    expected = [[TAGS.names[tag] for tag in each.expected] for each in outcomes]
    predicted = [[TAGS.names[tag] for tag in each.predicted] for each in outcomes]
    figures = {"accuracy": accuracy_score(expected, predicted)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for average, suffix in (("micro", ""), ("macro", "Macro")):
            scores = precision_recall_fscore_support(expected, predicted, average=average)
            figures |= {
                f"{name}{suffix}": score for name, score in zip(("precision", "recall", "f1"), scores, strict=False)
            }
    return figures


@given(judged)
def test_figures_are_those_of_seqeval(texts: list[list[tuple[int, int]]]) -> None:
    outcomes = [outcome(text) for text in texts]
    figures = report(outcomes).result()
    theirs = by_seqeval(outcomes)
    assert {name: figures[name] for name in theirs} == pytest.approx(theirs, nan_ok=True)


@given(judged, st.integers(0, 8))
def test_counts_are_exactly_the_same_however_they_are_split(texts: list[list[tuple[int, int]]], cut: int) -> None:
    outcomes = [outcome(text) for text in texts]
    split, other = report(outcomes[:cut]), report(outcomes[cut:])
    split.merge(other)
    whole = report(outcomes)
    assert np.array_equal(split.counts, whole.counts)
    assert split.result() == pytest.approx(whole.result(), nan_ok=True)


def test_the_figures_of_a_kind_are_in_brackets_and_the_loss_is_that_of_a_word() -> None:
    figures = report([Tagged((1, 2, 0, 3), (1, 2, 3, 3), 2.0)]).result()
    assert (figures["f1[disease]"], figures["precision[drug]"], figures["f1[symptom]"]) == (1.0, 0.5, 0.0)
    assert figures["loss"] == 0.5


def test_every_figure_that_can_be_asked_for_is_measured() -> None:
    assert EntityReport.known.keys() <= report([Tagged((1,), (0,), 0.5)]).result().keys()
