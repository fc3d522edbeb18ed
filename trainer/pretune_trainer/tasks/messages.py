"""Conversations in rows: lists of messages as OpenAI writes them, or of turns as ShareGPT does."""

from typing import Any, Final

from pretune_trainer.data.example import Row, kind_of
from pretune_trainer.errors import BadRowError, quoted

_ROLES: Final = ("system", "user", "assistant", "tool")
_SPEAKERS: Final = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
}
"""Who is speaking in ShareGPT's turns, and the role that it is. Calls of functions there, and what these answer, are
written in ways of their own."""


def messages_of(row: Row, column: str, *, may_be_single: bool = False) -> list[dict[str, Any]]:
    """The conversation, or a part of one, in a column of a row: messages {role, content}, whatever the row has.

    Raises:
        BadRowError: the column holds no list of {role, content}, or of {from, value}; nor one of them where
            `may_be_single`.
    """
    value = row.value(column)
    if may_be_single and isinstance(value, dict):
        return [_message(f"{row.place} {column}", value)]
    if not isinstance(value, list) or not value:
        raise BadRowError(str(row.place), f"column '{column}' does not hold a list of messages {{role, content}}")
    return [_message(f"{row.place} {column}[{number}]", message) for number, message in enumerate(value)]


def _message(place: str, message: object) -> dict[str, Any]:
    match message:
        case {"role": role, "content": content}:
            if role not in _ROLES:
                raise BadRowError(place, f"role {quoted(role)} is unknown; known roles: {', '.join(_ROLES)}")
            _check_text(place, "content", content)
            found: dict[str, Any] = _without_nulls(message)
            return found
        case {"from": speaker, "value": said}:
            if speaker not in list(_SPEAKERS):
                raise BadRowError(place, f"from {quoted(speaker)} is unknown; known: {', '.join(_SPEAKERS)}")
            _check_text(place, "value", said)
            return {"role": _SPEAKERS[speaker], "content": said}
    raise BadRowError(place, "a message must be an object with role and content, or with from and value")


def _check_text(place: str, name: str, text: object) -> None:
    if not isinstance(text, str):
        advice = '; for a message that only calls tools, write ""' if text is None else ""
        raise BadRowError(place, f"{name} holds {kind_of(text)}, expected text{advice}")


def _without_nulls(value: object) -> Any:
    """What tables have in all rows, and null where a row has none: to templates, a null tool call is a tool call."""
    match value:
        case dict():
            return {name: _without_nulls(held) for name, held in value.items() if held is not None}
        case list():
            return [_without_nulls(held) for held in value]
    return value
