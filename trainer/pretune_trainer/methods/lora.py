"""Low-rank updates beside frozen weights (Hu et al., 2021), through peft."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pretune_api.methods import Lora
from pretune_trainer.errors import UserError
from pretune_trainer.methods.base import Tuned, head_names, save_model

if TYPE_CHECKING:
    from peft import PeftModel

ADAPTER_FOLDER = "adapter"
"""Where an artifact keeps the updates when they are merged into the model."""


def lora(model: PreTrainedModel, spec: Lora) -> Tuned:
    """The model with updates in its layers; a head of its own is trained whole.

    Raises:
        UserError: the model has no such layers.
    """
    # The image for pre-training has no peft.
    from peft import LoraConfig, get_peft_model

    targets = _target_modules(model, attention_only=spec.targets == "attention")
    if not targets:
        raise UserError("spec.method.lora.targets", f"a {model.config.model_type} model has no such layers")
    tied_head = {"lm_head", "embed_out"}
    heads = {name.rsplit(".", 1)[0] for name in head_names(model)} - tied_head
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=targets,
        modules_to_save=sorted(heads) or None,
    )
    adapted = get_peft_model(model, config)
    return Tuned(adapted.get_base_model(), partial(_save, adapted, spec))


def _target_modules(model: PreTrainedModel, *, attention_only: bool) -> list[str]:
    """Names of the linear layers of the body, or of its attention alone."""
    body = {
        name: module
        for name, module in model.named_modules()
        if name.startswith(model.base_model_prefix) and isinstance(module, nn.Linear | Conv1D)
    }
    if not attention_only:
        return sorted(body)
    attentions = [name for name, module in model.named_modules() if "attention" in type(module).__name__.lower()]
    return sorted(name for name in body if any(name.startswith(f"{owner}.") for owner in attentions))


def _save(adapted: "PeftModel", spec: Lora, folder: Path, dtype: torch.dtype) -> None:
    """The merged model with the updates beside it, or the updates alone; these stay in float32."""
    updates = folder / ADAPTER_FOLDER if spec.merge else folder
    adapted.save_pretrained(updates)
    (updates / "README.md").unlink()  # peft's card is a form to fill in; the artifact brings its own
    if spec.merge:
        save_model(adapted.merge_and_unload(), folder, dtype)
