"""What a model is given of a batch, and what its head makes of it."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def fitting(inputs: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """The inputs, pixels and sounds in the type that the model computes with: on several ranks its weights may be bf16.

    Sharding casts what enters a block alone: a whole batch has targets, too.
    """
    dtype = next(model.parameters()).dtype
    return {
        name: value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in inputs.items()
    }


def logits_of(model: nn.Module, inputs: Mapping[str, object]) -> Tensor:
    """The model's logits, as float32: losses of 16-bit numbers would lose digits."""
    logits = model(**fitting(inputs, model)).logits
    assert isinstance(logits, Tensor)
    return logits.float()
