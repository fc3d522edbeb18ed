"""Answers are judged as SQuAD's script judges them, whichever window or rank has read the right one."""

import pytest

from pretune_trainer.metrics.answers import Answer, AnswerReport, exact_match, word_f1


def answer(question: int, text: str, *expected: str, score: float = 1.0, none_score: float = 0.0) -> Answer:
    return Answer(question, expected, text, score, none_score, 0.5)


def result(*answers: Answer, unanswerable: bool = False) -> dict[str, float]:
    metric = AnswerReport(unanswerable=unanswerable)
    metric.update(answers)
    return metric.result()


@pytest.mark.parametrize(
    ("said", "right", "same", "f1"),
    [
        ("The Eiffel Tower!", "eiffel tower", True, 1.0),
        ("an  apple", "Apple", True, 1.0),
        ("tower in Paris", "the tower", False, 0.5),
        ("red red wine", "red wine", False, 0.8),
        ("red red wine", "red red", False, 0.8),
        ("", "", True, 1.0),
        ("", "wine", False, 0.0),
        ("theatre", "the atre", False, 0.0),
    ],
)
def test_answers_are_compared_without_case_punctuation_and_articles(
    said: str, right: str, same: bool, f1: float
) -> None:
    assert exact_match(said, right) is same
    assert word_f1(said, right) == pytest.approx(f1)


def test_of_several_right_answers_the_nearest_counts() -> None:
    figures = result(answer(1, "in 1999", "1999", "in 1999"), answer(2, "wine", "red wine", "beer"))
    assert figures == {"loss": 0.5, "exactMatch": 0.5, "f1": pytest.approx((1 + 2 / 3) / 2)}


def test_the_surest_window_of_a_question_counts_on_whichever_rank_it_is() -> None:
    one, other = (AnswerReport(unanswerable=False) for _ in range(2))
    one.update([answer(1, "wrong", "right", score=1.0)])
    other.update([answer(1, "right", "right", score=2.0), answer(2, "x", "y")])
    one.merge(other)
    assert one.result() == {"loss": 0.5, "exactMatch": 0.5, "f1": 0.5}


def test_of_two_windows_that_are_as_sure_the_same_one_counts_whichever_rank_comes_first() -> None:
    for texts in (("early", "late"), ("late", "early")):
        one, other = (AnswerReport(unanswerable=False) for _ in texts)
        for rank, text in zip((one, other), texts, strict=True):
            rank.update([answer(1, text, "late")])
        one.merge(other)
        assert one.result()["exactMatch"] == 1.0


def test_none_is_an_answer_where_that_can_be() -> None:
    unsure = answer(1, "guess", score=1.0, none_score=2.0)
    assert result(unsure, unanswerable=True)["exactMatch"] == 1.0
    sure = answer(1, "guess", score=5.0, none_score=0.5)
    assert result(unsure, sure, unanswerable=True)["exactMatch"] == 0.0
    as_sure = answer(1, "guess", score=2.0, none_score=2.0)
    assert result(as_sure, unanswerable=True)["exactMatch"] == 0.0


def test_there_is_no_answer_only_where_no_window_has_one() -> None:
    best = answer(1, "guess", score=3.0, none_score=4.0)
    for other in (answer(1, "else", score=1.0, none_score=2.0), answer(1, "else", score=1.0, none_score=9.0)):
        is_said = other.none_score < best.score
        for windows in ((best, other), (other, best)):
            assert result(*windows, unanswerable=True)["exactMatch"] == (0.0 if is_said else 1.0)


def test_where_every_question_has_an_answer_the_likeliest_span_is_one_however_unsure() -> None:
    assert result(answer(1, "wine", "wine", score=-5.0, none_score=5.0))["exactMatch"] == 1.0


def test_every_figure_that_can_be_asked_for_is_measured() -> None:
    assert AnswerReport.known.keys() == result(answer(1, "a", "a")).keys()
