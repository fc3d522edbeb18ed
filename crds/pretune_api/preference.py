"""Learning which of two answers is preferred."""

from typing import Annotated

from pydantic import Field

from pretune_api.base import Spec
from pretune_api.units import ColumnName


class Preference(Spec):
    """Give preferred answers more probability than others, compared with the model before training (DPO, Rafailov et
    al., 2023).

    The source's column holds a prompt, others the two answers, as TRL's preference format has them: all three are
    texts, or lists of messages, each {role, content}.
    """

    chosen_column: ColumnName = "chosen"
    """Column with the answer that is preferred."""
    rejected_column: ColumnName = "rejected"
    """Column with the other answer."""
    beta: Annotated[float, Field(gt=0.0, le=100.0)] = 0.1
    """How dear it is to leave the model before training: the larger, the closer to it."""
    template: Annotated[str | None, Field(min_length=1, max_length=65_536)] = None
    """Jinja chat template for messages; without it the tokenizer's own, or else roles in plain text."""
