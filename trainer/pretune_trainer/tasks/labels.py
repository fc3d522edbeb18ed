"""Labels of rows, by their names."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Final

from pretune_trainer.data.example import Row
from pretune_trainer.errors import BadRowError, quoted

_MOST_NAMED: Final = 20
"""Labels, in a sentence."""


def label_number(row: Row, label: object, numbers: Mapping[str, int], where: str) -> int:
    """The number of a label; `where` is the field that lists them.

    Raises:
        BadRowError: it is not listed, or there is none.
    """
    if label is None:
        raise BadRowError(str(row.place), f"the label is null; remove the row, or write one of {where}")
    name = str(label).lower() if isinstance(label, bool) else str(label)  # as YAML and JSON write it: true, not True
    number = numbers.get(name)
    if number is None:
        raise BadRowError(str(row.place), f"label {quoted(name)} is not listed in {where}; {nearest(name, numbers)}")
    return number


def nearest(wrong: str, known: Iterable[str]) -> str:
    """The end of a sentence about a label that does not exist: the nearest that does, or else the first ones."""
    names = list(known)
    near = difflib.get_close_matches(wrong, names, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names[:_MOST_NAMED])}"
