"""Making a model: from an architecture, from a folder, from a hub. Never with code or pickles of others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    FeatureExtractionMixin,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.auto_factory import _BaseAutoModelClass

from pretune_api.model import Architecture
from pretune_trainer.data.adapt import Added
from pretune_trainer.data.images import Images
from pretune_trainer.data.tokenizer import save_tokenizer
from pretune_trainer.errors import UserError
from pretune_trainer.model.added_tokens import embed
from pretune_trainer.model.architecture_sizes import refused
from pretune_trainer.model.body import body_names, token_embedding
from pretune_trainer.model.configuration import ARCHITECTURE, CONFIG, TOKENS, default_config, make_config, text_config
from pretune_trainer.model.layer_drop import keep_layers
from pretune_trainer.model.origin import Source, is_encoder_decoder, model_type
from pretune_trainer.model.parent_weights import (
    check_layers,
    check_shapes,
    check_unquantized,
    check_vocabulary,
    check_without_updates,
    heads_lacking,
    note_new,
    why_not_loaded,
)
from pretune_trainer.model.positions import check_length

_USUAL: Final = ("llama", "gpt2", "bert", "roberta", "t5", "bart", "vit", "resnet", "clip")
"""Types of models that come to mind first."""
_FILLED_LEFT: Final = frozenset({"xlnet"})
"""Types that look for what a text says at the end of its row."""
_ENCODERS: Final = {"vit_mae": "vit"}
"""Types that are only made to be pre-trained, and the type that their encoder alone is of."""


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
            with refused(self.origin.config, default_config(self.origin.type), CONFIG):
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
        found = {name: value for name in TOKENS if (value := getattr(self.text, name)) is not None}
        return self._of_decoder(self.text) | found

    def _of_decoder(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
        """What an encoder-decoder goes by where its tokenizer names no end: the token that parts texts, BERT's [SEP];
        and with what a new one begins to write where its type does not say, as T5's: padding.
        """
        if not is_encoder_decoder(self.origin):
            return {}
        said, origin = {"eos_token_id": tokenizer.sep_token_id}, self.origin
        if isinstance(origin, Architecture) and not hasattr(default_config(origin.type), "decoder_start_token_id"):
            said["decoder_start_token_id"] = tokenizer.pad_token_id
        return {name: token for name, token in said.items() if token is not None}

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
        note_new(model, heads_lacking(model, config))
        return model


def _type_with_head(auto: type[_BaseAutoModelClass], origin: Architecture | Source) -> str:
    """The type of model that gets the head which a task needs: the origin's own, or that of its encoder alone.

    Raises:
        UserError: transformers knows the type, but not with that head; or the type reads other rows than ours.
    """
    kind = model_type(origin)
    where = f"{ARCHITECTURE}.type" if isinstance(origin, Architecture) else "spec.model.from"
    if kind in _FILLED_LEFT:
        raise UserError(where, f"models of type '{kind}' need rows that are padded on the left; use bert or roberta")
    known = list(auto._model_mapping._model_mapping)
    if kind in known or kind not in CONFIG_MAPPING:
        return kind
    if isinstance(origin, Source) and _ENCODERS.get(kind) in known:
        return _ENCODERS[kind]
    head = auto.__name__.removeprefix("AutoModelFor")
    usual = ", ".join(name for name in _USUAL if name in known)
    raise UserError(where, f"transformers has no {head} model of type '{kind}'; supported types include {usual}")


def _encoder_config(source: Source, kind: str, fields: dict[str, Any]) -> PretrainedConfig:
    """The configuration of a parent's encoder as a model of its own; `fields` are those of its head."""
    own = AutoConfig.from_pretrained(source.name, **source.arguments).to_dict()
    known = default_config(kind).to_dict().keys() - {"architectures", "model_type", "transformers_version"}
    return AutoConfig.for_model(kind, **{name: own[name] for name in known & own.keys()} | fields)


def _known(source: Source, tokens: Mapping[str, int]) -> dict[str, int]:
    """Those that the parent's configuration has: one of two towers has none, and keeps its text tower's."""
    config = AutoConfig.from_pretrained(source.name, **source.arguments)
    return {name: token for name, token in tokens.items() if hasattr(config, name)}


def _with_other_ends(tokens: dict[str, int], ends: int | list[int] | None) -> dict[str, int | list[int]]:
    """Special tokens, and the parent's other end tokens (chat models have several) if it knows the tokenizer's."""
    if isinstance(ends, list) and tokens.get("eos_token_id") in ends:
        return {**tokens, "eos_token_id": ends}
    return {**tokens}
