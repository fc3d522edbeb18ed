"""What a model is given of a batch, and what its head makes of it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pretune_trainer.model.body import body_of


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


def judges_by_end(model: PreTrainedModel) -> bool:
    """Whether a model sums up a text where it ends: at the last end token, as BART's and T5's kin do."""
    return bool(model.config.is_encoder_decoder) and hasattr(model, "classification_head")


def logits_of_whole(model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
    """The logits of each text, or pair of texts, as float32 [texts, labels].

    Models that judge texts by their ends refuse such as have more end tokens than others, as where people write </s>:
    they are asked in two parts.
    """
    assert isinstance(model, PreTrainedModel)
    if not judges_by_end(model):
        return logits_of(model, inputs)
    ids = inputs["input_ids"]
    begun = {"decoder_input_ids": model._shift_right(ids)} if hasattr(model, "_shift_right") else {}
    hidden = body_of(model)(**fitting(inputs, model), **begun, use_cache=False).last_hidden_state
    places = torch.arange(ids.shape[1], device=ids.device) * (ids == model.config.eos_token_id)
    logits = model.get_submodule("classification_head")(hidden[torch.arange(len(ids)), places.argmax(-1)])
    assert isinstance(logits, Tensor)
    return logits.float()
