"""The text of a row: what is judged, and what is edited."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from pretune_api.cleaning import Cleaning
from pretune_trainer.data.cleaning.c4 import c4_lines
from pretune_trainer.data.cleaning.masking import mask
from pretune_trainer.data.example import Row


def text_in(value: object) -> str:
    """All text in a text, or in a list of words or messages."""
    match value:
        case str():
            return value
        case list():
            return " ".join(map(text_in, value))
        case dict():
            return text_in(list(value.values()))
    return ""


def edited(row: Row, cleaning: Cleaning, columns: Sequence[str], masked: Counter[str]) -> Row:
    """The row with personal data masked, and of a text only the lines that C4 keeps; `columns` have text, too."""
    values = dict(row.values)
    for column in values.keys() & {row.column, *columns} if cleaning.mask else ():
        values[column] = _map(values[column], lambda text: mask(text, cleaning.mask, masked))
    text = values.get(row.column)
    if "c4" in cleaning.filters and isinstance(text, str):
        values[row.column] = c4_lines(text)
    return replace(row, values=values)


def _map(value: object, change: Callable[[str], str]) -> object:
    match value:
        case str():
            return change(value)
        case list():
            return [_map(item, change) for item in value]
        case dict():
            return {key: _map(item, change) for key, item in value.items()}
    return value
