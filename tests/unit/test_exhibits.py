"""What an evaluation leaves to look at: bounded, and the same at any number of ranks."""

import pytest

from pretune_trainer.metrics.answers import Answer, AnswerReport
from pretune_trainer.metrics.classification import ClassificationReport, Judged
from pretune_trainer.metrics.exhibits import Samples
from pretune_trainer.metrics.likelihood import Likelihood
from pretune_trainer.metrics.overlap import Written
from pretune_trainer.metrics.transcripts import Transcript, TranscriptReport
from pretune_trainer.metrics.writing import Draft, WritingReport


def judged(*pairs: tuple[int, int]) -> list[Judged]:
    return [Judged((expected,), (predicted,), 0.0) for expected, predicted in pairs]


def test_a_confusion_matrix_has_a_row_for_each_expected_label_and_adds_up_over_ranks() -> None:
    one, other = ClassificationReport(["cat", "dog"]), ClassificationReport(["cat", "dog"])
    one.update(judged((0, 0), (0, 1)))
    other.update(judged((1, 1), (0, 1)))
    one.merge(other)
    confusion = one.exhibits().confusion
    assert confusion is not None
    assert (confusion.labels, confusion.counts) == (["cat", "dog"], [[1, 2], [0, 1]])


def test_of_many_labels_the_most_frequent_are_shown_by_name_and_the_others_together() -> None:
    report = ClassificationReport([str(number) for number in range(100)])
    report.update(judged(*((number, number) for number in range(100) for _ in range(number))))
    confusion = report.exhibits().confusion
    assert confusion is not None
    assert confusion.labels == [*map(str, range(80, 100)), "others"]
    assert [confusion.counts[row][row] for row in range(21)] == [*range(80, 100), sum(range(80))]


def test_examples_with_several_labels_have_no_confusion_matrix() -> None:
    report = ClassificationReport(["cat", "dog"], several=True)
    report.update([Judged((0, 1), (), 0.0)])
    assert report.exhibits().model_dump(exclude_defaults=True) == {}


@pytest.mark.parametrize("ranks", [1, 3])
def test_the_same_few_samples_are_kept_whatever_the_ranks_and_the_order(ranks: int) -> None:
    texts = [(f"wanted {number}", f"written {number}") for number in range(60)]
    parts = [Samples() for _ in range(ranks)]
    for number, text in enumerate(reversed(texts)):
        parts[number % ranks].add(*text)
    first, *others = parts
    for other in others:
        first.merge(other)
    expected = Samples()
    for text in texts:
        expected.add(*text)
    assert first.chosen() == expected.chosen()
    assert len(first.chosen()) == 8
    assert all(sample.written == sample.wanted.replace("wanted", "written") for sample in first.chosen())


def test_samples_are_short() -> None:
    samples = Samples()
    samples.add("a" * 10_000, "b" * 10_000)
    [sample] = samples.chosen()
    assert (len(sample.wanted), len(sample.written)) == (500, 500)


def test_a_model_that_writes_shows_what_was_wanted_beside_it() -> None:
    report = WritingReport()
    report.update([Draft(Likelihood(1.0, 1, 1), (Written("a cat", "the cat"),))])
    [sample] = report.exhibits().samples
    assert (sample.wanted, sample.written) == ("the cat", "a cat")


def test_a_model_that_listens_shows_what_was_said_beside_what_it_wrote() -> None:
    report = TranscriptReport()
    report.update([Transcript(1.0, 7, "the cat", "a cat"), Transcript(1.0, 3, "unseen", None)])
    [sample] = report.exhibits().samples
    assert (sample.wanted, sample.written) == ("the cat", "a cat")


def test_a_model_that_answers_shows_every_right_answer() -> None:
    report = AnswerReport(unanswerable=False)
    report.update([Answer(0, ("1889", "in 1889"), "1890", score=1.0, none_score=0.0, loss=0.0)])
    [sample] = report.exhibits().samples
    assert (sample.wanted, sample.written) == ("1889 | in 1889", "1890")


def test_a_model_that_says_that_there_is_no_answer_shows_none() -> None:
    report = AnswerReport(unanswerable=True)
    report.update([Answer(0, ("1889",), "1890", score=0.0, none_score=1.0, loss=0.0)])
    [sample] = report.exhibits().samples
    assert (sample.wanted, sample.written) == ("1889", "")


def test_what_was_heard_on_other_ranks_is_shown_too() -> None:
    one, other = TranscriptReport(), TranscriptReport()
    other.update([Transcript(1.0, 7, "the cat", "a cat")])
    one.merge(other)
    [sample] = one.exhibits().samples
    assert (sample.wanted, sample.written) == ("the cat", "a cat")
