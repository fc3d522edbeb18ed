"""What is wrong with a parent's weights, where transformers goes on as if nothing were, or fails in its own words."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Final

import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from pretune_trainer.errors import UserError, lines_of
from pretune_trainer.model.body import body_names

_WHERE: Final = "spec.model.from"
_MEDIA: Final = ("image", "video", "audio")
"""Whose tokens stand for what is no text, in tokenizers of models that read it."""
_NEVER_RUN: Final = "it brings code of its own, which is never run; use a model that transformers knows by itself"
_OWN_CODE: Final = "contains custom code"
"""What transformers says, of models and of tokenizers, before it would run it."""


def why_not_loaded(error: Exception) -> str:
    """What transformers or safetensors say of a parent that cannot be loaded, in a sentence."""
    if isinstance(error, StrictDataclassError):
        return f"transformers refuses its config.json: {lines_of(error.__cause__ or error)[0]}"
    said = lines_of(error)[0]
    if isinstance(error, SafetensorError):
        return f"its weights are cut off or damaged ({said}); fetch them again"
    if isinstance(error, OSError) and "model.safetensors" in said:
        return "it has no file model.safetensors; save it anew with save_pretrained, as pickles are never opened"
    return _NEVER_RUN if _OWN_CODE in said else said


def check_unquantized(config: PretrainedConfig) -> None:
    """Refuse weights of few bits: most kinds need libraries that are not here, and what is left of others is no model.

    Raises:
        UserError: they are quantized.
    """
    how = getattr(config, "quantization_config", None)
    if how is not None:
        kind = how.get("quant_method", "bitsandbytes")  # which did not name itself at first
        raise UserError(_WHERE, f"its weights are quantized ({kind}), which cannot be trained; use the original model")


def check_without_updates(folder: Path) -> None:
    """Refuse updates beside a whole model: transformers would put them on top, and freeze all but them.

    Raises:
        UserError: there are some.
    """
    updates = folder / "adapter_config.json"
    if updates.is_file():
        kind = json.loads(updates.read_text())["peft_type"]
        advice = "merge them into the model, or, if they are, remove adapter_config.json and adapter_model.safetensors"
        raise UserError(_WHERE, f"it holds {kind} updates beside a whole model; {advice}")


def check_shapes(body: Collection[str], mismatched: Collection[str]) -> None:
    """Refuse weights that are not those of the configuration. A head of another size is another task's: it is new.

    Raises:
        UserError: some of the parameters `body`, those below the head, have another shape.
    """
    wrong = sorted(name for name in mismatched if name in body)
    if wrong:
        raise UserError(
            _WHERE, f"its weights do not fit its config.json: {wrong[0]} has another shape; check the folder"
        )


def check_layers(missing: Collection[str], body: Collection[str]) -> None:
    """Refuse weights that lack some of a layer: transformers would take random ones. A head, or a pooler, may be new.

    Args:
        missing: names of the parameters that are new.
        body: names of those below the head.

    Raises:
        UserError: some are lacking.
    """
    lacking = sorted(name for name in missing if name in body and any(map(str.isdigit, name.split("."))))
    if lacking:
        raise UserError(_WHERE, f"its weights lack {lacking[0]}; check the folder")


def note_new(model: PreTrainedModel, missing: Collection[str]) -> None:
    """Remember which linear layers the parent lacks, such as the pooler of a BERT that has learnt maskedLM alone."""
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    model.new_parameters = frozenset(name for name in missing if name.rpartition(".")[0] in linear)


def heads_lacking(model: PreTrainedModel, config: PretrainedConfig) -> set[str]:
    """Names of the parameters outside a model's body that its parent lacks, as the parent's config.json has it: none,
    where that names no class of transformers. The model, on torch's meta device, is made from shapes alone.
    """
    kind = getattr(transformers, next(iter(config.architectures or ()), ""), None)
    if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel)):
        return set()
    own, parents = ({name for name, _ in each.named_parameters()} for each in (model, kind(config)))
    return own - body_names(model) - parents


def new_names(model: PreTrainedModel) -> frozenset[str]:
    """Names of the parameters of linear layers that the parent lacks: they are trained whatever else stands still."""
    names: frozenset[str] = getattr(model, "new_parameters", frozenset())
    return names


def check_vocabulary(embedding: nn.Embedding | None, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer with ids that the model has no embedding for, where it embeds tokens.

    What stands for an image or a sound may be such: Gemma 3 of 1B, which reads neither, shares the tokenizer of those
    that do.

    Raises:
        UserError: it has.
    """
    if embedding is None:
        return
    entries, rows = len(tokenizer), embedding.num_embeddings
    placeholders = {getattr(tokenizer, f"{what}_token_id", None) for what in _MEDIA}
    if set(range(rows, entries)) - placeholders:
        raise UserError(
            "spec.tokenizer",
            f"it has {entries} entries, but the model from spec.model.from has embeddings for {rows}; "
            "remove spec.tokenizer to use the model's own, or, if it is that one, resize the model's embeddings",
        )
