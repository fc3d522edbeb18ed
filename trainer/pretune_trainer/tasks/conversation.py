"""The conversation of a row: a list of messages in one column, or texts in several."""

from typing import Any, Final

from pretune_api.tasks import Chat
from pretune_trainer.data.example import Row, kind_of, unless_blank
from pretune_trainer.errors import BadRowError, quoted
from pretune_trainer.tasks.messages import messages_of

_CHAT: Final = "spec.task.chat"


def conversation_of(row: Row, spec: Chat) -> list[dict[str, Any]]:
    """Messages {role, content}: what the source's column holds, or a question and its answer.

    Raises:
        BadRowError: the columns are missing, or do not hold what they should.
    """
    messages = _messages(row) if spec.answer_column is None else _question_and_answer(row, spec, spec.answer_column)
    system = _optional(row, spec.system_column)
    if not system:
        return messages
    if messages[0]["role"] == "system":
        raise BadRowError(
            str(row.place),
            f"both column '{spec.system_column}' and the first message hold a system prompt; leave one of them out",
        )
    return [{"role": "system", "content": system}, *messages]


def _messages(row: Row) -> list[dict[str, Any]]:
    if isinstance(row.value(row.column), str):
        raise BadRowError(
            str(row.place),
            f"column '{row.column}' holds text, not a list of messages {{role, content}}; if the text is a question, "
            f"set {_CHAT}.answerColumn to the column with its answer",
        )
    return messages_of(row, row.column)


def _question_and_answer(row: Row, spec: Chat, answer_column: str) -> list[dict[str, Any]]:
    if isinstance(row.value(row.column), list):
        raise BadRowError(
            str(row.place),
            f"column '{row.column}' holds a list, expected a question as text; of messages, let the list end with the "
            f"answer, and remove {_CHAT}.answerColumn",
        )
    question = _text(row, row.column, row.value(row.column), "a question")
    answer = _text(row, answer_column, row.value(answer_column), "an answer")
    context = _optional(row, spec.context_column)
    asked = f"{question}\n\n{context}" if context else question
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def _optional(row: Row, column: str | None) -> str:
    """The text in a column; empty where it is null or blank, or no column is named."""
    value = None if column is None else row.value(column)
    if not isinstance(value, str | None):
        raise BadRowError(str(row.place), f"column '{column}' holds {kind_of(value)}, expected text or null")
    return unless_blank(value)


def _text(row: Row, column: str, value: object, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        held = quoted(value) if isinstance(value, str) else kind_of(value)
        raise BadRowError(
            str(row.place), f"column '{column}' holds {held}, expected {what} as text; remove rows without one"
        )
    return value
