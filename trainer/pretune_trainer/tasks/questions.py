"""From a row in SQuAD's format to a question with its answers."""

from dataclasses import dataclass

from pretune_api.tasks import QuestionAnswering
from pretune_trainer.data.example import Row
from pretune_trainer.errors import BadRowError, quoted


@dataclass(frozen=True)
class Question:
    """A question about a text."""

    question: str
    text: str
    answers: list[str]
    """Every right answer."""
    span: tuple[int, int] | None
    """Characters of the first answer, from and until; None where the text has none."""


def read_question(row: Row, spec: QuestionAnswering) -> Question:
    """The question of a row.

    Raises:
        BadRowError: it is empty, an answer does not stand where the row says, or there is none and should be one.
    """
    text, question = row.text(), row.value(spec.question_column)
    if not isinstance(question, str) or not question.strip():
        raise BadRowError(str(row.place), f"column '{spec.question_column}' holds {quoted(question)}, not a question")
    answers, starts = _answers(row, spec)
    for answer, start in zip(answers, starts, strict=True):
        _check_place(row, text, answer, start)
    if not answers and not spec.unanswerable:
        raise BadRowError(
            f"{row.place} {spec.answers_column}",
            "the question has no answer; if that is intended, set spec.task.questionAnswering.unanswerable",
        )
    return Question(question, text, answers, (starts[0], starts[0] + len(answers[0])) if answers else None)


def _answers(row: Row, spec: QuestionAnswering) -> tuple[list[str], list[int]]:
    value = row.value(spec.answers_column)
    texts, starts = (value.get("text"), value.get("answer_start")) if isinstance(value, dict) else (None, None)
    if (
        not isinstance(texts, list)
        or not isinstance(starts, list)
        or len(texts) != len(starts)
        or not all(isinstance(text, str) and text for text in texts)
        or any(type(start) is not int for start in starts)
    ):
        raise BadRowError(
            f"{row.place} {spec.answers_column}",
            "as in SQuAD, answers must be an object with text, a list of texts, and answer_start, as many numbers",
        )
    return texts, starts


def _check_place(row: Row, text: str, answer: str, start: int) -> None:
    if start >= 0 and text[start : start + len(answer)] == answer:
        return
    found = text.find(answer)
    where = f"it is at {found}" if found >= 0 else "it is not in the text at all"
    said = f"the answer {quoted(answer)} is not at character {quoted(start)} of the text; {where}"
    raise BadRowError(str(row.place), said)
