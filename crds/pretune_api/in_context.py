"""Labels asked of a language model before it is trained, for the task sequenceClassification."""

from typing import Annotated

from pydantic import Field

from pretune_api.base import Spec
from pretune_api.units import ANSWER_PROMPT


class InContext(Spec):
    """The baseline of a parent that is a causal language model: it continues a prompt, which may contain examples.

    Each label is as likely as its words are after the prompt (GPT-3; Brown et al., 2020). Nothing is trained, and no
    new head is created. Long texts are truncated so that the prompt fits into the model's context.
    """

    prompt: Annotated[str, Field(min_length=13, max_length=4_096, pattern=ANSWER_PROMPT)]
    """Template for a text that ends with its label, such as "review: {text} sentiment: {label}"."""
    examples_per_class: Annotated[int, Field(ge=0, le=1_000)] = 0
    """Number of training examples per label to put before the text, in the same template; they are sampled and shuffled
    with training.seed. 0 means none (zero-shot)."""
    words: Annotated[
        dict[str, Annotated[str, Field(min_length=1, max_length=256)]],
        Field(max_length=10_000),
    ] = {}
    """Words that stand for a label in the prompt, such as {positive: good}; by default, the label itself."""
