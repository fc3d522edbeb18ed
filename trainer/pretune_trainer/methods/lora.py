"""Low-rank updates beside frozen weights (Hu et al., 2021), through peft."""

from dataclasses import replace
from typing import Final

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pretune_api.methods import Lora
from pretune_trainer.errors import UserError
from pretune_trainer.methods.base import Tuned
from pretune_trainer.methods.updates import new_heads, updated
from pretune_trainer.model.body import body_names

_MAMBAS: Final = frozenset({"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"})
_BYPASSED: Final = (".out_proj",)
"""Layers of these that kernels compute by their weights alone: peft refuses to update them."""
_FUSED: Final = 3
"""Dimensions of a tensor that holds one layer of all experts."""


def lora(model: PreTrainedModel, spec: Lora) -> Tuned:
    """The model with updates in its layers; a head of its own is trained whole.

    Raises:
        UserError: the model has no such layers.
    """
    # The image for pre-training has no peft.
    from peft import LoraConfig, get_peft_model

    targets = _target_modules(model, attention_only=spec.targets == "attention")
    if not targets:
        raise UserError("spec.method.lora.targets", f"{model.config.model_type} models have no such layers")
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=targets,
        use_rslora=spec.rank_stabilized,
        use_dora=spec.weight_decomposed,
        modules_to_save=new_heads(model) or None,
    )
    note = "" if spec.targets == "attention" else _note(model)
    return replace(updated(get_peft_model(model, config), merge=spec.merge), note=note)


def _note(model: PreTrainedModel) -> str:
    """What is said of a mixture whose experts lie in one tensor a layer: to update it, peft would make all of it anew
    in each step."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    experts = [name for name, each in model.named_parameters() if ".experts." in name and each.ndim == _FUSED]
    if not experts:
        return ""
    share = sum(sizes[name] for name in experts) / sum(sizes.values())
    return f"lora does not update the model's experts, {share:.0%} of its weights: they are no linear layers"


def _target_modules(model: PreTrainedModel, *, attention_only: bool) -> list[str]:
    """Names of the linear layers of the body, or of its attention alone."""
    names = body_names(model)
    body = [
        name
        for name, module in model.named_modules()
        if f"{name}.weight" in names and isinstance(module, nn.Linear | Conv1D)
    ]
    if not attention_only:
        bypassed = _BYPASSED if model.config.model_type in _MAMBAS else ()
        return sorted(name for name in body if not name.endswith(bypassed))
    attentions = [name for name, module in model.named_modules() if "attention" in type(module).__name__.lower()]
    return sorted(name for name in body if any(name.startswith(f"{owner}.") for owner in attentions))
