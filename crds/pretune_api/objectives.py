"""What a PretrainJob learns: one model an objective, one line in `Objective`."""

from typing import Annotated

from pydantic import Field

from pretune_api.base import OneOf, Spec


class CausalLM(Spec):
    """Predict each token from those before it (GPT, Llama).

    Documents are packed into rows and attend within themselves.
    """


class Objective(OneOf):
    """What is learnt."""

    causal_lm: Annotated[CausalLM | None, Field(alias="causalLM")] = None
    """Predict the next token."""
