"""Labels of rows, by their names."""

from collections.abc import Mapping

from pretune_api.fields import suggestion
from pretune_trainer.data.example import Row
from pretune_trainer.errors import BadRowError, quoted


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
        raise BadRowError(str(row.place), f"label {quoted(name)} is not listed in {where}; {suggestion(numbers, name)}")
    return number
