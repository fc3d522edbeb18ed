"""Vectors that stand before every text as tokens would are trained, through peft: prefix and prompt tuning.

peft calls the model with them; tasks call parts of the model, and let it write. So they are put in where a model's body
begins, in a hook, at the positions that peft gives them: what is trained here is what peft computes with the artifact.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pretune_api.methods import Prefix, PromptTuning
from pretune_trainer.errors import UserError
from pretune_trainer.methods.base import Tuned
from pretune_trainer.methods.updates import new_heads, updated

if TYPE_CHECKING:
    from peft import PeftModel, PromptLearningConfig

Arguments = dict[str, Any]
"""Keyword arguments of a model's body."""
_ENCODER = "prompt_encoder"
_DECODERS = ("gemma", "gpt2", "gpt_neox", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3")
"""Model types that see virtual tokens as peft means them; a test holds each to it."""


def prefix(model: PreTrainedModel, spec: Prefix) -> Tuned:
    """The model with trained keys and values before those of the text; a head of its own is trained whole.

    Raises:
        UserError: the model is no decoder, or has a head that peft cannot place.
    """
    # The image for pre-training has no peft.
    from peft import PrefixTuningConfig

    kind = _task_type(model, "spec.method.prefix")
    config = PrefixTuningConfig(task_type=kind, num_virtual_tokens=spec.tokens, prefix_projection=spec.projected)
    return _tuned(model, config, _before_keys)


def prompt_tuning(model: PreTrainedModel, spec: PromptTuning) -> Tuned:
    """The model with trained embeddings before those of the text.

    Raises:
        UserError: the model is no decoder that writes.
    """
    from peft import PromptTuningConfig

    where = "spec.method.promptTuning"
    kind = _task_type(model, where)
    if kind != "CAUSAL_LM":
        # Behind virtual tokens peft's classifier looks at the end of the row, be it padding.
        raise UserError(where, "a head after virtual embeddings cannot tell text from padding; use prefix")
    config = PromptTuningConfig(task_type=kind, num_virtual_tokens=spec.tokens, prompt_tuning_init="SAMPLE_VOCAB")
    tuned = _tuned(model, config, _before_embeddings)
    model.base_model.register_forward_hook(partial(_without, spec.tokens), with_kwargs=True)
    return tuned


def _task_type(model: PreTrainedModel, where: str) -> str:
    """What peft calls a model with this head."""
    kind = model.config.model_type
    if kind not in _DECODERS:
        known = ", ".join(_DECODERS)
        raise UserError(where, f"virtual tokens are for decoders ({known}), not '{kind}'; use lora or adapter")
    if model.base_model is model:
        raise UserError(where, "virtual tokens would be part of the vectors; use lora or adapter")
    heads = new_heads(model)
    if heads not in ([], ["score"]):
        raise UserError(where, f"peft supports no virtual tokens with the head {', '.join(heads)}; use lora or adapter")
    return "SEQ_CLS" if heads else "CAUSAL_LM"


Put = Callable[["PeftModel", int, Tensor, Arguments], Arguments]
"""(adapted model, virtual tokens, ids of the text, arguments) -> the arguments that differ where a text begins."""


def _tuned(model: PreTrainedModel, config: "PromptLearningConfig", put: Put) -> Tuned:
    from peft import get_peft_model

    adapted = get_peft_model(model, config)
    model.add_module(_ENCODER, adapted.prompt_encoder)
    hook = partial(_with, adapted, config.num_virtual_tokens, put)
    model.base_model.register_forward_pre_hook(hook, with_kwargs=True)
    return updated(adapted, merge=False)


def _with(
    adapted: "PeftModel", count: int, put: Put, body: nn.Module, ids: tuple[Tensor, ...], given: Arguments
) -> tuple[tuple[()], Arguments]:
    """A body's arguments, with virtual tokens before the text: seen by it, and counted by its positions."""
    arguments = {**dict(zip(["input_ids"], ids, strict=False)), **given}
    if arguments.get("attention_mask") is not None:
        mask = arguments["attention_mask"]
        arguments["attention_mask"] = torch.cat([mask.new_ones(len(mask), count), mask], dim=1)
    if arguments.get("position_ids") is not None:
        arguments["position_ids"] = arguments["position_ids"] + count
    cache = arguments.get("past_key_values")
    if cache is None or cache.get_seq_length() == 0:  # else they are in it
        arguments |= put(adapted, count, arguments["input_ids"], arguments)
    return (), arguments


def _before_keys(adapted: "PeftModel", count: int, ids: Tensor, arguments: Arguments) -> Arguments:
    return {"past_key_values": adapted.get_prompt(len(ids))}


def _before_embeddings(adapted: "PeftModel", count: int, ids: Tensor, arguments: Arguments) -> Arguments:
    words = adapted.get_base_model().get_input_embeddings()(ids)
    put: Arguments = {"input_ids": None, "inputs_embeds": torch.cat([adapted.get_prompt(len(ids)), words], dim=1)}
    positions = arguments.get("position_ids")
    if positions is not None:
        before = torch.arange(count, device=positions.device).expand(len(positions), count)
        put["position_ids"] = torch.cat([before, positions], dim=1)
    return put


def _without(count: int, body: nn.Module, args: tuple[()], given: Mapping[str, Any], output: Any) -> Any:
    """A body's output without the virtual tokens'."""
    if given.get("inputs_embeds") is not None:
        output.last_hidden_state = output.last_hidden_state[:, count:]
    return output
