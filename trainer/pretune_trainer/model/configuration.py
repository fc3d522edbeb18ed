"""Configurations of new models, as transformers has them, from the fields of a job."""

from collections.abc import Mapping
from typing import Any, Final

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

from pretune_api.fields import suggestion
from pretune_api.model import Architecture
from pretune_trainer.errors import UserError
from pretune_trainer.model.architecture_sizes import check_groups, check_signs, refused
from pretune_trainer.model.layer_drop import refuse_layer_drop
from pretune_trainer.model.positions import check_length, unused_positions

ARCHITECTURE: Final = "spec.model.architecture"
CONFIG: Final = f"{ARCHITECTURE}.config"
"""Where a job has the fields."""
TOKENS: Final = ("bos_token_id", "eos_token_id", "pad_token_id")
"""What a configuration says of a tokenizer's special tokens."""


def make_config(
    architecture: Architecture, vocabulary: int | None, sequence_length: int, fields: dict[str, Any]
) -> PretrainedConfig:
    """The transformers configuration of a new model.

    Raises:
        UserError: unknown type, unknown field, a value that the type refuses, or too few positions.
    """
    default = default_config(architecture.type)
    check_signs(architecture.config, default, CONFIG)
    refuse_layer_drop(architecture.config, CONFIG)
    given = _given(architecture.config, default, CONFIG)
    reader, text, where = _text_part(default, given)
    if vocabulary is not None and text.setdefault("vocab_size", vocabulary) != vocabulary:
        raise UserError(
            f"{where}.vocab_size",
            f"{text['vocab_size']} differs from the tokenizer's {vocabulary} entries; remove it to use that number",
        )
    for name, value in fields.items():
        (text if name in TOKENS else given).setdefault(name, value)
    positions = reader.attribute_map.get("max_position_embeddings", "max_position_embeddings")
    if positions in reader.to_dict() and positions not in text:
        pad = text.get("pad_token_id", reader.pad_token_id)
        text[positions] = sequence_length + unused_positions(architecture.type, pad)
    with refused(architecture.config, default, CONFIG):
        config = AutoConfig.for_model(architecture.type, architectures=[], **given)  # of several, DeiT's first
    check_groups(text_config(config), where)
    check_length(text_config(config), sequence_length, f"{where}.{positions}")
    assert isinstance(config, PretrainedConfig)
    return config


def text_config(config: PretrainedConfig) -> PretrainedConfig:
    """The part of a configuration that is about text: a tower's (CLIP), or the whole."""
    tower = getattr(config, "text_config", None)
    return tower if isinstance(tower, PretrainedConfig) else config


def _text_part(default: PretrainedConfig, given: dict[str, Any]) -> tuple[PretrainedConfig, dict[str, Any], str]:
    """What the tokenizer has a say in: its default, the fields given for it, and where these stand."""
    reader = text_config(default)
    if reader is default:
        return default, given, CONFIG
    return reader, given.setdefault("text_config", {}), f"{CONFIG}.text_config"


def default_config(name: str) -> PretrainedConfig:
    """The configuration of a type of model in which nothing is set.

    Raises:
        UserError: transformers knows no such type.
    """
    try:
        config = AutoConfig.for_model(name)
    except ValueError as error:
        raise UserError(f"{ARCHITECTURE}.type", f"'{name}' is unknown; {suggestion(CONFIG_MAPPING, name)}") from error
    assert isinstance(config, PretrainedConfig)
    return config


def _given(fields: Mapping[str, Any], default: PretrainedConfig, where: str) -> dict[str, Any]:
    """The fields of a configuration, and of its towers'. JSON writes 1.0 as 1, and transformers takes no whole number
    where it wants another.

    Raises:
        UserError: there is no such field.
    """
    known = {*default.to_dict(), *default.attribute_map}
    given: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in known:
            raise UserError(
                f"{where}.{name}", f"{default.model_type} models have no such field; {suggestion(sorted(known), name)}"
            )
        usual = getattr(default, name, None)
        if isinstance(usual, PretrainedConfig) and isinstance(value, dict):
            value = _given(value, usual, f"{where}.{name}")
        given[name] = float(value) if type(value) is int and isinstance(usual, float) else value
    return given
