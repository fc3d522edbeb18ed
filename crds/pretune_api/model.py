"""Where a model and its tokenizer come from."""

from collections.abc import Iterable
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field, JsonValue

from pretune_api.base import OneOf, Rule, Spec
from pretune_api.units import URI, Commit, Digest, HubRepo, JobName, ModelType

DEEPEST_CONFIG: Final = 16
"""Levels of lists and objects in a configuration; those of transformers have up to four. No schema can bound them."""


def _not_too_deep(config: dict[str, JsonValue]) -> dict[str, JsonValue]:
    level: list[JsonValue] = [config]
    for _ in range(DEEPEST_CONFIG):
        level = [item for value in level for item in _items(value)]
    if any(isinstance(value, dict | list) for value in level):
        raise ValueError(f"is nested too deeply; use {DEEPEST_CONFIG} levels or fewer")
    return config


def _items(value: JsonValue) -> Iterable[JsonValue]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


class Hub(Spec):
    """A model on a Hugging Face hub, pinned to a commit. HF_TOKEN and HF_ENDPOINT set the token and the mirror."""

    repo: HubRepo
    """Repository on the hub, as ORG/NAME."""
    revision: Commit
    """Commit of the repository, as 40 hex digits: a branch or a tag can move, a commit cannot."""


class From(OneOf):
    """An existing model: a job's artifact, a folder in Hugging Face format, or a model on a hub."""

    choices: ClassVar[tuple[str, ...]] = ("pretrain_job", "finetune_job", "uri", "hub")

    pretrain_job: JobName | None = None
    """Name of a PretrainJob in the same namespace, whose artifact is used once it has succeeded."""
    finetune_job: JobName | None = None
    """Name of a FinetuneJob in the same namespace, whose artifact is used once it has succeeded."""
    uri: URI | None = None
    """Folder with a model in Hugging Face format: an artifact, or any folder that `from_pretrained` can load."""
    digest: Digest | None = None
    """Digest that the folder at `uri` must have; defaults to the one found at the first start."""
    hub: Hub | None = None
    """Model on a Hugging Face hub."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="digest",
            message="is only for uri; a job's artifact has its own digest, and hub has revision",
            cel="!has(self.digest) || has(self.uri)",
            holds=lambda self: self.digest is None or self.uri is not None,
        ),
    )

    @property
    def job(self) -> str | None:
        """KIND/NAME of the job referred to, if it is one."""
        if self.pretrain_job is not None:
            return f"PretrainJob/{self.pretrain_job}"
        if self.finetune_job is not None:
            return f"FinetuneJob/{self.finetune_job}"
        return None


class Architecture(Spec):
    """A new model, described by its transformers configuration."""

    type: ModelType
    """Model type in transformers, such as llama, gpt2, bert or t5."""
    config: Annotated[dict[str, JsonValue], Field(max_length=128), AfterValidator(_not_too_deep)] = {}
    """Fields of that type's configuration, such as hidden_size; vocab_size is taken from the tokenizer."""


class Model(OneOf):
    """The model to train: a new architecture, or an existing model."""

    architecture: Architecture | None = None
    """Start from random weights."""
    from_: Annotated[From | None, Field(alias="from")] = None
    """Start from existing weights."""


class TokenizerTraining(Spec):
    """A new tokenizer, trained on the job's training data before the model."""

    algorithm: Literal["bpe", "unigram", "wordpiece", "character"] = "bpe"
    """bpe is byte-level (GPT-2), unigram as in SentencePiece (T5), wordpiece as in BERT; character has one token per
    character, for speech recognition with CTC (wav2vec2)."""
    vocab_size: Annotated[int, Field(ge=64, le=2_000_000)] = 32_768
    """Vocabulary size, including special tokens; with character it is a maximum, beyond which the rarest characters are
    left out."""
    sample_documents: Annotated[int, Field(ge=100, le=10_000_000)] = 1_000_000
    """Maximum number of documents to read, spread evenly over the sources; of words of more than 32 characters, which
    clauses without spaces are, ever fewer are taken after the first 4 million characters."""


class TokenizerAdaptation(Spec):
    """The parent's tokenizer, extended with tokens for words of the job's training data; existing tokens do not change.

    Frequent pairs of existing tokens become new ones, whose embeddings start as the mean of those of their pieces.
    """

    tokens: Annotated[int, Field(ge=1, le=1_000_000)]
    """Number of tokens to add."""
    sample_documents: Annotated[int, Field(ge=100, le=10_000_000)] = 1_000_000
    """Maximum number of documents to read, spread evenly over the sources."""


class Tokenizer(OneOf):
    """How text is tokenized; an existing model comes with its own tokenizer."""

    train: TokenizerTraining | None = None
    """Train a new tokenizer on the job's training data."""
    adapt: TokenizerAdaptation | None = None
    """Extend the tokenizer of model.from with words of the job's training data."""
    from_: Annotated[From | None, Field(alias="from")] = None
    """Use the tokenizer of an existing model."""
