"""What a line of a file says: text, or a record in JSON."""

import json
import re
from typing import Final

from pretune_trainer.data.example import Place
from pretune_trainer.data.signatures import told_by_signature
from pretune_trainer.errors import BadRowError

_ESCAPED_HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")
"""JSON writes characters beyond U+FFFF as two, which make sense together alone."""


def text_of(line: bytes, place: Place) -> str:
    """The text of a line, or of a document, in UTF-8.

    Raises:
        BadRowError: it is none.
    """
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        said = told_by_signature(line) if place.row == 1 else None
        said = said or f"byte {error.start + 1} is not valid UTF-8; convert the file to UTF-8"
        raise BadRowError(str(place), said) from error


def record_of(line: bytes, place: Place) -> dict[str, object]:
    """The JSON object of a line.

    Raises:
        BadRowError: it is none.
    """
    text = text_of(line, place)
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadRowError(str(place), _not_json(text, error)) from error
    except (ValueError, RecursionError) as error:
        raise BadRowError(
            str(place), "a number with thousands of digits, or lists nested as deeply, cannot be read; remove them"
        ) from error
    if not isinstance(record, dict):
        raise BadRowError(str(place), f"the line holds a JSON {type(record).__name__}; expected one object per line")
    if _ESCAPED_HALF.search(text) and not _is_unicode(record):
        raise BadRowError(
            str(place), "it escapes half a character, one of \\ud800 to \\udfff alone; write both halves, or none"
        )
    return record


def _not_json(line: str, error: json.JSONDecodeError) -> str:
    if "\0" in line:
        return "the line has NUL characters; is the file UTF-16, or damaged? expected JSON in UTF-8"
    return f"the line is not valid JSON ({error.msg} at character {error.pos + 1}); expected one object per line"


def _is_unicode(record: object) -> bool:
    """Whether every text in it can be written as UTF-8, as tokenizers want it."""
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
