"""One vector a text, of its last hidden states."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def pooled(model: nn.Module, inputs: Mapping[str, Tensor], how: str) -> Tensor:
    """The vectors of texts that are padded on the right: float32 [rows, width].

    Args:
        model: a model without a head.
        inputs: input_ids, attention_mask int64 [rows, length].
        how: mean of all tokens, cls for the first one, last.
    """
    assert isinstance(model, PreTrainedModel)
    whole = {"use_cache": False} if hasattr(model.config, "use_cache") else {}
    hidden: Tensor = model(**inputs, **whole).last_hidden_state.float()
    mask = inputs["attention_mask"]
    match how:
        case "cls":
            return hidden[:, 0]
        case "last":
            return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
