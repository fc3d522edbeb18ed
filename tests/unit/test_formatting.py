"""Figures of a report as people read them."""

from collections.abc import Mapping

import pytest

from pretune_cli.formatting import amount, headline
from pretune_trainer.metrics.answers import AnswerReport
from pretune_trainer.metrics.classification import ClassificationReport
from pretune_trainer.metrics.entities import EntityReport
from pretune_trainer.metrics.image_text_retrieval import ImageTextRetrieval
from pretune_trainer.metrics.likelihood import Perplexity
from pretune_trainer.metrics.preference import Rewards
from pretune_trainer.metrics.recovery import PairRecovery
from pretune_trainer.metrics.regression import RegressionReport
from pretune_trainer.metrics.text_retrieval import TextRetrieval
from pretune_trainer.metrics.transcripts import TranscriptReport
from pretune_trainer.metrics.writing import WritingReport


@pytest.mark.parametrize(
    ("value", "short"),
    [(950, "950"), (9_500, "9,500"), (12_500, "12.5k"), (999_999, "1M"), (999_700_000, "1B"), (3_200_000, "3.2M")],
)
def test_a_count_in_short_has_three_digits_and_its_unit(value: float, short: str) -> None:
    assert amount(value) == short


@pytest.mark.parametrize(
    ("known", "judged_by"),
    [
        (AnswerReport.known, "f1"),
        (ClassificationReport.known, "accuracy, f1Macro"),
        (EntityReport.known, "f1, accuracy, f1Macro"),
        (Perplexity.known, "perplexity"),
        (Rewards.known, "rewardAccuracy"),
        (PairRecovery.known, "perplexity, accuracy, nextSentenceAccuracy"),
        (RegressionReport.known, "pearson, rmse"),
        (ImageTextRetrieval.known, "imageToTextRecallAt1, textToImageRecallAt1, zeroShotAccuracy"),
        (TextRetrieval.known, "recallAt1, mrrAt10"),
        (TranscriptReport.known, "wer"),
        (WritingReport.known, "perplexity, rougeL, bleu"),
    ],
)
def test_the_headline_has_the_figures_by_which_each_task_is_judged(known: Mapping[str, bool], judged_by: str) -> None:
    measured = {**dict.fromkeys(known, 0.5), "loss": 0.5, "loss/language=de": 0.5}
    assert ", ".join(headline(measured, None)) == f"loss, {judged_by}"


def test_the_headline_has_the_same_figures_of_the_test_last() -> None:
    measured = {"test_loss": 2.0, "test_f1[cat]": 0.5, "test_accuracy": 0.5, "accuracy": 0.6, "loss": 1.0}
    assert list(headline(measured, None)) == ["loss", "accuracy", "test_loss", "test_accuracy"]
    assert list(headline(measured, ["accuracy"])) == ["accuracy", "test_accuracy"]


def test_the_headline_has_the_figures_that_a_job_asks_for() -> None:
    measured = {"loss": 0.5, "recallAt10": 0.5, "recallAt10/language=de": 0.5}
    assert list(headline(measured, ["recallAt10"])) == ["recallAt10"]
