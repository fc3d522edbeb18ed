"""What pydantic finds wrong with a value, in words for the person who wrote it."""

import json
import re
from collections.abc import Mapping
from typing import Final

from pydantic_core import ErrorDetails

from pretune_api.base import Spec
from pretune_api.fields import field_model, python_names, suggestion
from pretune_api.units import LOOKS

_LONGEST_QUOTE: Final = 60

_WANTED: Final[Mapping[str, str]] = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "datetime_type": "a time such as 2026-11-21T03:00:00Z",
    "datetime_parsing": "a time such as 2026-11-21T03:00:00Z",
    "datetime_from_date_parsing": "a time such as 2026-11-21T03:00:00Z",
}

_SENTENCES: Final[Mapping[str, str]] = {
    "greater_than": "{value} is too small; write more than {gt}",
    "greater_than_equal": "{value} is too small; write {ge} or more",
    "less_than": "{value} is too large; write less than {lt}",
    "less_than_equal": "{value} is too large; write {le} or less",
    "finite_number": "{value} is not a finite number",
    "too_short": "has too few entries: {actual_length}; write {min_length} or more",
    "too_long": "has too many entries: {actual_length}; write {max_length} or fewer",
    "string_too_short": "{value} is too short; write {min_length} or more characters",
    "string_too_long": "{value} is too long; write {max_length} or fewer characters",
    "value_error": "{error}",
}


def sentence(details: ErrorDetails, model: type[Spec]) -> str:
    """What is wrong with a value of a document of `model`, and what would be right."""
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "missing":
        return f"is missing ({_description(model, details['loc'])})"
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        return f"unknown value {shown(value)}; {suggestion(choices, str(value))}"
    if kind == "string_pattern_mismatch":
        return f"{shown(value)} is invalid; write {LOOKS.get(context['pattern'], context['pattern'])}"
    if kind in _WANTED:
        return _wrong_type(value, _WANTED[kind])
    return _SENTENCES[kind].format(value=shown(value), **context) if kind in _SENTENCES else details["msg"]


def shown(value: object) -> str:
    """A raw value as a message quotes it: JSON, cut short."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"


def _wrong_type(value: object, wanted: str) -> str:
    return f"{shown(value)} is {_kind(value)}, expected {wanted}{_advice(value, wanted)}"


def _kind(value: object) -> str:
    match value:
        case None:
            return "no value"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
    return "a mapping"


def _advice(value: object, wanted: str) -> str:
    if wanted == "text" and isinstance(value, bool):
        return "; put it in quotes (without them, yes, no, on and off are booleans as well)"
    if wanted == "text" and isinstance(value, (int, float)):
        return "; put it in quotes"
    if isinstance(value, str) and wanted != "text" and re.fullmatch(r"[-+.\d][-+.\deE]*|true|false", value):
        return "; remove the quotes"
    return ""


def _description(model: type[Spec], location: tuple[int | str, ...]) -> str:
    """The documentation of the field at a place."""
    *above, last = [step for step in location if isinstance(step, str)]
    found: type[Spec] | None = model
    for name in above:
        found = field_model(found, name) if found else None
    assert found is not None, "pydantic misses fields of models only"
    written = found.model_fields[python_names(found)[last]].description or ""
    return " ".join(written.split()).rstrip(".")
