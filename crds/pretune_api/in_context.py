"""Labels asked of a language model before it is trained, for the task sequenceClassification."""

from typing import Annotated

from pydantic import Field

from pretune_api.base import Spec
from pretune_api.units import ANSWER_PROMPT


class InContext(Spec):
    """The baseline of a parent that is a causal language model: it goes on with a prompt, which may show it examples.

    A text's labels are as likely as their words are behind it (GPT-3; Brown et al., 2020). Nothing is trained, and no
    new head is made. Long texts are cut, so that all fit into the model's positions.
    """

    prompt: Annotated[str, Field(min_length=13, max_length=4_096, pattern=ANSWER_PROMPT)]
    """Words around a text and, at its end, its label; such as "review: {text} sentiment: {label}"."""
    examples_per_class: Annotated[int, Field(ge=0, le=1_000)] = 0
    """Training examples of each label that stand before the text, filled in alike, drawn and mixed by training.seed; 0
    asks without any (zero-shot)."""
    words: Annotated[
        dict[str, Annotated[str, Field(min_length=1, max_length=256)]],
        Field(max_length=10_000),
    ] = {}
    """What is said for a label, such as {positive: good}; the label itself where absent."""
