"""What a model that has been made consists of: its body below the head, its embedding of tokens."""

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel


def has_weights(model: nn.Module) -> bool:
    """Whether the model can compute; on torch's meta device it has shapes alone."""
    return not any(parameter.is_meta for parameter in model.parameters())


def body_of(model: PreTrainedModel) -> PreTrainedModel:
    """The model below its head, which Llama 4 has elsewhere than its class says; the model itself where that is no part
    of it by itself, as in T5."""
    body = model.base_model if model.base_model is not model else getattr(model, "model", model)
    assert isinstance(body, PreTrainedModel)
    return body


def body_names(model: PreTrainedModel) -> set[str]:
    """Names of the parameters of the model's body. Where that is no part of it by itself, as in T5, they are those that
    the same model has without a head."""
    body = body_of(model)
    if body is not model:
        place = next(name for name, module in model.named_modules() if module is body)
        return {f"{place}.{name}" for name, _ in body.named_parameters()}
    with torch.device("meta"):
        return {name for name, _ in AutoModel.from_config(model.config).named_parameters()}


def token_embedding(model: PreTrainedModel) -> nn.Embedding | None:
    """The table of a model, or of its tower, that reads tokens; None where only images are read."""
    reader = getattr(model, "text_model", model)
    try:
        found = reader.get_input_embeddings()
    except NotImplementedError:
        return None
    return found if isinstance(found, nn.Embedding) else None
