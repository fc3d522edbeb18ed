"""Making a model: from an architecture, from a folder, from a hub. Never with code or pickles of others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    FeatureExtractionMixin,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.auto_factory import _BaseAutoModelClass
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from pretune_api.fields import suggestion
from pretune_api.model import Architecture
from pretune_trainer.data.adapt import Added
from pretune_trainer.data.images import Images
from pretune_trainer.data.tokenizer import save_tokenizer
from pretune_trainer.errors import UserError
from pretune_trainer.model.added_tokens import embed
from pretune_trainer.model.architecture_sizes import check_groups, check_signs, refused
from pretune_trainer.model.layer_drop import keep_layers, refuse_layer_drop
from pretune_trainer.model.parent_weights import (
    check_layers,
    check_shapes,
    check_unquantized,
    check_vocabulary,
    check_without_updates,
    note_new,
    why_not_loaded,
)
from pretune_trainer.model.positions import check_length, reach, unused_positions

_ARCHITECTURE: Final = "spec.model.architecture"
_CONFIG: Final = f"{_ARCHITECTURE}.config"
_TOKENS: Final = ("bos_token_id", "eos_token_id", "pad_token_id")
"""What a configuration says of a tokenizer's special tokens."""
_USUAL: Final = ("llama", "gpt2", "bert", "roberta", "t5", "bart", "vit", "resnet", "clip")
"""Types of models that come to mind first."""
_ENCODERS: Final = {"vit_mae": "vit"}
"""Types that are only made to be pre-trained, and the type that their encoder alone is of."""


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


@dataclass(frozen=True)
class Build:
    """All that a model is made from."""

    origin: Architecture | Source
    """New weights, or existing ones."""
    text: PreTrainedTokenizerBase | None
    """The tokenizer, which decides the vocabulary and the special tokens; None where no text is read."""
    sequence_length: int
    """Longest row that the model must take."""
    attention: str | None = None
    """Name of the attention implementation; None leaves it to transformers."""
    images: Images | None = None
    """How images become pixels; None where no image is read."""
    extractor: FeatureExtractionMixin | None = field(default=None, kw_only=True)
    """How audio becomes what the model hears; None where none is read."""
    virtual_tokens: int = 0
    """Trained vectors that stand before every row, and take positions of their own."""
    added: Added | None = field(default=None, kw_only=True)
    """Tokens that an existing model has no embeddings for yet."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of a model that reads text."""
        assert self.text is not None, "a model that reads text has a tokenizer"
        return self.text

    def save_inputs(self, folder: Path) -> None:
        """Write what turns text, images and audio into the model's inputs."""
        if self.text is not None:
            save_tokenizer(self.text, folder)
        if self.added is not None:
            self.added.save(folder)
        if self.images is not None:
            self.images.save(folder)
        if self.extractor is not None:
            self.extractor.save_pretrained(folder)

    def make(self, auto: type[_BaseAutoModelClass], **head: object) -> PreTrainedModel:
        """A model of the class that `auto` chooses, in float32 on the CPU; `head` are configuration fields.

        On torch's meta device it has shapes alone: no weights are made, and none of a parent's are read.

        Raises:
            UserError: the architecture, its fields, or the parent's weights do not fit.
        """
        kind = _type_with_head(auto, self.origin)
        tokens = self._special_tokens()
        if isinstance(self.origin, Architecture):
            length = self.sequence_length + self.virtual_tokens
            config = make_config(self.origin, self._vocabulary, length, tokens | head)
            with refused(self.origin.config, _default_config(self.origin.type), _CONFIG):
                model = auto.from_config(config, attn_implementation=self.attention, dtype=torch.float32)
        else:
            model = self._existing(auto, self.origin, kind, _known(self.origin, tokens) | head)
        if model.can_generate():
            model.generation_config.update(**_with_other_ends(tokens, model.generation_config.eos_token_id))
        assert isinstance(model, PreTrainedModel)
        keep_layers(model)
        return model

    @property
    def _vocabulary(self) -> int | None:
        return None if self.text is None else len(self.text)

    def _special_tokens(self) -> dict[str, int]:
        if self.text is None:
            return {}
        return {name: value for name in _TOKENS if (value := getattr(self.tokenizer, name)) is not None}

    def _existing(
        self, auto: type[_BaseAutoModelClass], source: Source, kind: str, fields: dict[str, Any]
    ) -> PreTrainedModel:
        if kind != model_type(source):
            fields = {"config": _encoder_config(source, kind, fields)}
        check_unquantized(AutoConfig.from_pretrained(source.name, **source.arguments))
        if source.revision is None:
            check_without_updates(Path(source.name))
        load = self._shapes if torch.get_default_device().type == "meta" else self._weights
        try:
            model = load(auto, source, fields)
        except (ImportError, OSError, ValueError, SafetensorError) as error:
            raise UserError("spec.model.from", f"the model cannot be loaded: {why_not_loaded(error)}") from error
        if self.text is not None:
            if self.added is not None:
                embed(model, self.added)
            check_vocabulary(token_embedding(model), self.text)
            check_length(
                text_config(model.config), self.sequence_length, "spec.data.sequenceLength", self.virtual_tokens
            )
        return model

    def _weights(self, auto: type[_BaseAutoModelClass], source: Source, fields: dict[str, Any]) -> PreTrainedModel:
        model, loaded = auto.from_pretrained(
            source.name,
            attn_implementation=self.attention,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **source.arguments,
            **fields,
        )
        assert isinstance(model, PreTrainedModel)
        if source.revision is None:
            model.name_or_path = ""  # a folder of this machine says nothing to anyone who has the artifact
        body = body_names(model)
        check_shapes(body, {name for name, *_ in loaded["mismatched_keys"]})
        check_layers(loaded["missing_keys"], body)
        note_new(model, loaded["missing_keys"])
        return model

    def _shapes(self, auto: type[_BaseAutoModelClass], source: Source, fields: dict[str, Any]) -> PreTrainedModel:
        config = fields.get("config") or AutoConfig.from_pretrained(source.name, **source.arguments, **fields)
        model = auto.from_config(config, attn_implementation=self.attention, dtype=torch.float32)
        assert isinstance(model, PreTrainedModel)
        return model


def has_weights(model: nn.Module) -> bool:
    """Whether the model can compute; on torch's meta device it has shapes alone."""
    return not any(parameter.is_meta for parameter in model.parameters())


def _type_with_head(auto: type[_BaseAutoModelClass], origin: Architecture | Source) -> str:
    """The type of model that gets the head which a task needs: the origin's own, or that of its encoder alone.

    Raises:
        UserError: transformers knows the type, but not with that head.
    """
    kind = model_type(origin)
    known = list(auto._model_mapping._model_mapping)
    if kind in known or kind not in CONFIG_MAPPING:
        return kind
    if isinstance(origin, Source) and _ENCODERS.get(kind) in known:
        return _ENCODERS[kind]
    where = f"{_ARCHITECTURE}.type" if isinstance(origin, Architecture) else "spec.model.from"
    head = auto.__name__.removeprefix("AutoModelFor")
    usual = ", ".join(name for name in _USUAL if name in known)
    raise UserError(where, f"transformers has no {head} model of type '{kind}'; supported types include {usual}")


def _encoder_config(source: Source, kind: str, fields: dict[str, Any]) -> PretrainedConfig:
    """The configuration of a parent's encoder as a model of its own; `fields` are those of its head."""
    own = AutoConfig.from_pretrained(source.name, **source.arguments).to_dict()
    known = _default_config(kind).to_dict().keys() - {"architectures", "model_type", "transformers_version"}
    return AutoConfig.for_model(kind, **{name: own[name] for name in known & own.keys()} | fields)


def check_type(origin: Architecture | Source, wanted: str, stage: str) -> None:
    """Refuse any other type of model than the one that an objective or task is about.

    Raises:
        UserError: it is of another type.
    """
    kind = model_type(origin)
    if kind != wanted:
        where = f"{_ARCHITECTURE}.type" if isinstance(origin, Architecture) else "spec.model.from"
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
        where = f"{_ARCHITECTURE}.type" if isinstance(origin, Architecture) else "spec.model.from"
        raise UserError(where, f"{stage} trains encoders and decoders of text, such as bert or llama, not '{kind}'")


def _known(source: Source, tokens: Mapping[str, int]) -> dict[str, int]:
    """Those that the parent's configuration has: one of two towers has none, and keeps its text tower's."""
    config = AutoConfig.from_pretrained(source.name, **source.arguments)
    return {name: token for name, token in tokens.items() if hasattr(config, name)}


def _with_other_ends(tokens: dict[str, int], ends: int | list[int] | None) -> dict[str, int | list[int]]:
    """Special tokens, and the parent's other end tokens (chat models have several) if it knows the tokenizer's."""
    if isinstance(ends, list) and tokens.get("eos_token_id") in ends:
        return {**tokens, "eos_token_id": ends}
    return {**tokens}


def model_type(origin: Architecture | Source) -> str:
    """The type of the model in transformers' words: llama, gpt2, bert.

    Raises:
        UserError: there is no configuration, or it is of no known type.
    """
    if isinstance(origin, Architecture):
        return origin.type
    try:
        return str(AutoConfig.from_pretrained(origin.name, **origin.arguments).model_type)
    except (OSError, ValueError) as error:
        raise UserError("spec.model.from", f"there is no model to start from: {why_not_loaded(error)}") from error


def check_language_model(source: Source, where: str) -> None:
    """Refuse a model that is not a causal language model, as `where` asks for one.

    Raises:
        UserError: it is none.
    """
    config = AutoConfig.from_pretrained(source.name, **source.arguments)
    found = config.architectures or []
    if not {*found} & {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()}:
        kind = " ".join(found) or config.model_type
        raise UserError(where, f"it needs a causal language model, but the parent is a {kind}; remove it")


def positions(source: Source) -> int | None:
    """Tokens that an existing model can read at once; None where its configuration sets no bound."""
    return reach(text_config(AutoConfig.from_pretrained(source.name, **source.arguments)))


def is_encoder_decoder(origin: Architecture | Source) -> bool:
    """Whether the model has an encoder and a decoder (T5, BART)."""
    if isinstance(origin, Architecture):
        return bool(_default_config(origin.type).is_encoder_decoder)
    return bool(AutoConfig.from_pretrained(origin.name, **origin.arguments).is_encoder_decoder)


def make_config(
    architecture: Architecture, vocabulary: int | None, sequence_length: int, fields: dict[str, Any]
) -> PretrainedConfig:
    """The transformers configuration of a new model.

    Raises:
        UserError: unknown type, unknown field, a value that the type refuses, or too few positions.
    """
    default = _default_config(architecture.type)
    check_signs(architecture.config, default, _CONFIG)
    refuse_layer_drop(architecture.config, _CONFIG)
    given = _given(architecture.config, default, _CONFIG)
    reader, text, where = _text_part(default, given)
    if vocabulary is not None and text.setdefault("vocab_size", vocabulary) != vocabulary:
        raise UserError(
            f"{where}.vocab_size",
            f"{text['vocab_size']} differs from the tokenizer's {vocabulary} entries; remove it to use that number",
        )
    positions = reader.attribute_map.get("max_position_embeddings", "max_position_embeddings")
    if positions in reader.to_dict() and positions not in text:
        text[positions] = sequence_length + unused_positions(architecture.type, fields.get("pad_token_id"))
    for name, value in fields.items():
        (text if name in _TOKENS else given).setdefault(name, value)
    with refused(architecture.config, default, _CONFIG):
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
        return default, given, _CONFIG
    return reader, given.setdefault("text_config", {}), f"{_CONFIG}.text_config"


def _default_config(name: str) -> PretrainedConfig:
    try:
        config = AutoConfig.for_model(name)
    except ValueError as error:
        raise UserError(f"{_ARCHITECTURE}.type", f"'{name}' is unknown; {suggestion(CONFIG_MAPPING, name)}") from error
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
                f"{where}.{name}", f"a {default.model_type} model has no such field; {suggestion(sorted(known), name)}"
            )
        usual = getattr(default, name, None)
        if isinstance(usual, PretrainedConfig) and isinstance(value, dict):
            value = _given(value, usual, f"{where}.{name}")
        given[name] = float(value) if type(value) is int and isinstance(usual, float) else value
    return given


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
