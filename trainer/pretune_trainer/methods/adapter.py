"""Small networks behind frozen layers (Houlsby et al., 2019; Pfeiffer et al., 2021), as a peft method of ours."""

from typing import Final

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pretune_api.methods import Adapter
from pretune_trainer.errors import UserError
from pretune_trainer.methods.base import Tuned
from pretune_trainer.methods.updates import new_heads, updated
from pretune_trainer.step import blocks_of

_ACTIVATIONS: Final = {"houlsby": "gelu", "pfeiffer": "relu"}
_ATTENTION_ENDS: Final = frozenset({"o_proj", "out_proj", "out_lin", "c_proj", "dense", "o", "wo"})
_FEED_FORWARD_ENDS: Final = frozenset({"down_proj", "c_proj", "dense", "wo", "fc2", "fc_out", "lin2", "dense_4h_to_h"})
"""What transformers calls, in small letters, the layer whose output is added to a block's stream. Not every model
declares its layers in the order in which they compute."""


def adapter(model: PreTrainedModel, spec: Adapter) -> Tuned:
    """The model with networks behind the parts of its blocks; a head of its own is trained whole.

    Raises:
        UserError: it is not known where these parts end in such a model.
    """
    # The image for pre-training has no peft.
    from peft import get_peft_model

    from pretune_trainer.methods import bottleneck

    config = bottleneck.BottleneckConfig(
        channels=spec.channels,
        activation=_ACTIVATIONS[spec.placement],
        target_modules=_target_modules(model, attention=spec.placement == "houlsby"),
        modules_to_save=new_heads(model) or None,
    )
    return updated(get_peft_model(model, config), merge=False, package=bottleneck.__name__)


def _target_modules(model: PreTrainedModel, *, attention: bool) -> list[str]:
    """Names of the layers at the ends of the feed-forward parts, and of the attentions too."""
    names = {module: name for name, module in model.named_modules()}
    ends = [end for block in blocks_of(model) for end in _ends(block, attention=attention)]
    if not ends or None in ends:
        raise UserError(
            "spec.method.adapter", f"it does not support {model.config.model_type} models; use lora, which supports any"
        )
    return [names[end] for end in ends if end is not None]


def _ends(block: nn.Module, *, attention: bool) -> list[nn.Module | None]:
    """The layers at the ends of a block's parts; None for one that is not found."""
    parts = _attentions(block)
    inside = {module for part in parts for module in part.modules()}
    behind = [_end(part, _ATTENTION_ENDS, set()) for part in parts] if attention else []
    return [*behind, _end(block, _FEED_FORWARD_ENDS, inside)]


def _attentions(block: nn.Module) -> list[nn.Module]:
    """The attentions of a block, each with all that belongs to it."""
    found: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for part in block.modules():
        if part not in inside and "attention" in type(part).__name__.lower():
            inside |= set(part.modules())
            found.append(part)
    return found


def _end(part: nn.Module, names: frozenset[str], without: set[nn.Module]) -> nn.Module | None:
    """The last linear layer of that name, None where there is none; `without` are other parts' layers."""
    named = [
        layer
        for name, layer in part.named_modules()
        if name.rpartition(".")[2].lower() in names and isinstance(layer, nn.Linear | Conv1D) and layer not in without
    ]
    return named[-1] if named else None
