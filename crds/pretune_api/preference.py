"""Learning which of two answers is preferred."""

from typing import Annotated

from pydantic import Field

from pretune_api.base import Spec
from pretune_api.units import ColumnName


class Preference(Spec):
    """Make preferred answers more likely than rejected ones, relative to the model before training (DPO, Rafailov et
    al., 2023).

    The source's column holds the prompt, and two other columns the answers, as in TRL's preference format: all three
    are texts, or lists of messages, each {role, content}, or of turns as in ShareGPT, each {from, value}; an answer may
    also be one of them.
    """

    chosen_column: ColumnName = "chosen"
    """Column with the preferred answer."""
    rejected_column: ColumnName = "rejected"
    """Column with the rejected answer."""
    beta: Annotated[float, Field(gt=0.0, le=100.0)] = 0.1
    """Penalty for deviating from the model before training: the larger it is, the closer the model stays to it."""
    template: Annotated[str | None, Field(min_length=1, max_length=65_536)] = None
    """Jinja chat template for messages; defaults to the tokenizer's own or, if it has none, to roles in plain text."""
