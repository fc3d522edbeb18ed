"""ROUGE, BLEU and chrF are those of rouge-score and sacrebleu, however the texts are split over batches and ranks."""

from collections.abc import Sequence
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from pretune_trainer.metrics.overlap import OverlapReport, Written

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "Dr.",
    "3,000",
    "well-known",
    "2-3",
    "(yes)",
    "it's",
    "A&B",
    "end.",
    "x_y",
]

texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
pairs = st.lists(st.builds(Written, texts, texts), min_size=1, max_size=6)
ROUGES = ["rouge1", "rouge2", "rougeL"]


def report(outcomes: Sequence[Written]) -> OverlapReport:
    metric = OverlapReport()
    metric.update(outcomes)
    return metric


@given(pairs)
def test_bleu_and_chrf_are_those_of_sacrebleu(outcomes: list[Written]) -> None:
    said, wanted = [each.text for each in outcomes], [[each.reference for each in outcomes]]
    figures = report(outcomes).result()
    assert figures["bleu"] == pytest.approx(BLEU().corpus_score(said, wanted).score, abs=1e-6)
    assert figures["chrf"] == pytest.approx(CHRF().corpus_score(said, wanted).score, abs=1e-6)


@given(pairs)
def test_rouge_is_that_of_rouge_score(outcomes: list[Written]) -> None:
    scorer = RougeScorer(ROUGES)
    scores = [scorer.score(each.reference, each.text) for each in outcomes]
    theirs = {name: mean(score[name].fmeasure for score in scores) for name in ROUGES}
    figures = report(outcomes).result()
    assert {name: figures[name] for name in ROUGES} == pytest.approx(theirs, abs=1e-6)


@given(pairs, st.integers(0, 6))
def test_figures_are_the_same_however_the_texts_are_split(outcomes: list[Written], cut: int) -> None:
    split, other = report(outcomes[:cut]), report(outcomes[cut:])
    split.merge(other)
    assert (split.bleu == report(outcomes).bleu).all()
    assert (split.chrf == report(outcomes).chrf).all()
    assert split.result() == pytest.approx(report(outcomes).result(), abs=1e-9)


def test_diversity_is_the_share_of_different_words_and_pairs_over_all_texts() -> None:
    figures = report([Written("a b a b", ""), Written("a c", "")]).result()
    assert (figures["distinct1"], figures["distinct2"]) == (3 / 6, 3 / 4)


def test_rouge_knows_words_of_any_script() -> None:
    assert report([Written("кошка спит", "кошка ест")]).result()["rouge1"] == 0.5


@pytest.mark.parametrize(
    ("said", "wanted", "shared"), [("की", "का", 0.0), ("दिल्ली में", "दिल्ली से", 0.5), ("我喜欢你", "我喜欢她", 0.75)]
)
def test_words_keep_their_vowel_marks_and_a_script_without_spaces_is_compared_by_character(
    said: str, wanted: str, shared: float
) -> None:
    assert report([Written(said, wanted)]).result()["rouge1"] == shared


def test_every_figure_that_can_be_asked_for_is_measured() -> None:
    assert OverlapReport.known.keys() == report([Written("a", "a")]).result().keys()
