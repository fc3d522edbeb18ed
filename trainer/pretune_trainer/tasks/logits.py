"""What the head of a model makes of a batch."""

from collections.abc import Mapping

from torch import Tensor, nn


def logits_of(model: nn.Module, inputs: Mapping[str, object]) -> Tensor:
    """The model's logits, as float32: losses of 16-bit numbers would lose digits."""
    logits = model(**inputs).logits
    assert isinstance(logits, Tensor)
    return logits.float()
