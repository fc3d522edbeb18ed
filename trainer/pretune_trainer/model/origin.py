"""What a model is made from: an architecture, or existing weights in a folder or on a hub."""

from dataclasses import dataclass
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from pretune_api.model import Architecture
from pretune_trainer.errors import UserError
from pretune_trainer.model.configuration import ARCHITECTURE, default_config, text_config
from pretune_trainer.model.parent_weights import why_not_loaded
from pretune_trainer.model.positions import reach


@dataclass(frozen=True)
class Source:
    """Existing weights, as `from_pretrained` takes them."""

    name: str
    """Folder on this machine, or ORG/NAME on a hub."""
    revision: str | None = None
    """Commit on the hub."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments that pin the revision and refuse remote code."""
        return {"revision": self.revision, "trust_remote_code": False}


def model_type(origin: Architecture | Source) -> str:
    """The type of the model in transformers' words: llama, gpt2, bert.

    Raises:
        UserError: there is no configuration, or it is of no known type.
    """
    return origin.type if isinstance(origin, Architecture) else str(parent_config(origin).model_type)


def parent_config(source: Source) -> PretrainedConfig:
    """The configuration of an existing model.

    Raises:
        UserError: there is none, it is of no known type, or transformers refuses it.
    """
    try:
        config = AutoConfig.from_pretrained(source.name, **source.arguments)
    except (OSError, ValueError, StrictDataclassError) as error:
        raise UserError("spec.model.from", f"there is no model to start from: {why_not_loaded(error)}") from error
    assert isinstance(config, PretrainedConfig)
    return config


def textless_type(source: Source) -> str | None:
    """The type of a model without a vocabulary, such as vit; None of any other, and where there is no model."""
    try:
        config = parent_config(source)
    except UserError:
        return None
    return None if hasattr(text_config(config), "vocab_size") else str(config.model_type)


def is_encoder_decoder(origin: Architecture | Source) -> bool:
    """Whether the model has an encoder and a decoder (T5, BART)."""
    if isinstance(origin, Architecture):
        return bool(default_config(origin.type).is_encoder_decoder)
    return bool(parent_config(origin).is_encoder_decoder)


def token_types(origin: Architecture | Source) -> int:
    """Kinds of tokens that the model tells apart, such as those of two texts; 0 where it tells none."""
    config = default_config(origin.type) if isinstance(origin, Architecture) else parent_config(origin)
    given = origin.config if isinstance(origin, Architecture) else {}
    found = given.get("type_vocab_size", getattr(config, "type_vocab_size", 0))
    return found if isinstance(found, int) else 0


def positions(source: Source) -> int | None:
    """Tokens that an existing model can read at once; None where its configuration sets no bound."""
    return reach(text_config(parent_config(source)))


def check_type(origin: Architecture | Source, wanted: str, stage: str) -> None:
    """Refuse any other type of model than the one that an objective or task is about.

    Raises:
        UserError: it is of another type.
    """
    kind = model_type(origin)
    if kind != wanted:
        where = f"{ARCHITECTURE}.type" if isinstance(origin, Architecture) else "spec.model.from"
        raise UserError(where, f"{stage} trains models of type {wanted}, not '{kind}'")


def check_reads_text(origin: Architecture | Source, stage: str) -> None:
    """Refuse any other model than an encoder of text, or a decoder, alone.

    Raises:
        UserError: it is another one.
    """
    kind = model_type(origin)
    if kind not in {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *MODEL_FOR_MASKED_LM_MAPPING_NAMES} or is_encoder_decoder(
        origin
    ):
        where = f"{ARCHITECTURE}.type" if isinstance(origin, Architecture) else "spec.model.from"
        raise UserError(where, f"{stage} trains encoders and decoders of text, such as bert or llama, not '{kind}'")


def check_language_model(source: Source, where: str) -> None:
    """Refuse a model that is not a causal language model, as `where` asks for one.

    Raises:
        UserError: it is none.
    """
    config = parent_config(source)
    found = config.architectures or []
    if not {*found} & {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()}:
        kind = " ".join(found) or config.model_type
        raise UserError(where, f"it needs a causal language model, but the parent is a {kind}; remove it")
