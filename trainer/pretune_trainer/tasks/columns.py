"""Columns that a task's own fields name."""

from pretune_trainer.data.example import Row
from pretune_trainer.errors import BadRowError, UserError


def value_in(row: Row, column: str, where: str) -> object:
    """What is in a column that the field `where` names.

    Raises:
        UserError: there is no such column.
    """
    try:
        return row.value(column)
    except BadRowError as error:
        raise UserError(where, str(error)) from error
