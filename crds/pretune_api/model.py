"""Where a model and its tokenizer come from."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue

from pretune_api.base import OneOf, Rule, Spec
from pretune_api.units import URI, Commit, Digest, HubRepo, JobName, ModelType


class Hub(Spec):
    """A model of a Hugging Face hub, pinned. Token and mirror come from HF_TOKEN and HF_ENDPOINT."""

    repo: HubRepo
    """Repository on the hub, as ORG/NAME."""
    revision: Commit
    """Commit of the repository, 40 hex digits: a branch or a tag can move, a commit cannot."""


class From(OneOf):
    """An existing model: the artifact of a job, a folder in Hugging Face format, or a model of a hub."""

    choices: ClassVar[tuple[str, ...]] = ("pretrain_job", "finetune_job", "uri", "hub")

    pretrain_job: JobName | None = None
    """Name of a PretrainJob in this namespace, whose artifact is used once it has succeeded."""
    finetune_job: JobName | None = None
    """Name of a FinetuneJob in this namespace, whose artifact is used once it has succeeded."""
    uri: URI | None = None
    """Folder with a model in Hugging Face format: an artifact, or any folder that `from_pretrained` reads."""
    digest: Digest | None = None
    """Digest that the folder at `uri` must have; without it, the digest found at the first start is kept."""
    hub: Hub | None = None
    """Model of a Hugging Face hub."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="digest",
            message="belongs to uri; a job's artifact brings its own, a hub has revision",
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
    """A model made from scratch, by its transformers configuration."""

    type: ModelType
    """Model type as transformers names it: llama, gpt2, bert, t5."""
    config: Annotated[dict[str, JsonValue], Field(max_length=128)] = {}
    """Fields of that type's configuration, such as hidden_size; vocab_size follows the tokenizer."""


class Model(OneOf):
    """What is trained: a new architecture, or an existing model."""

    architecture: Architecture | None = None
    """Start from random weights."""
    from_: Annotated[From | None, Field(alias="from")] = None
    """Start from existing weights."""


class TokenizerTraining(Spec):
    """A tokenizer trained on the job's training data, before anything else."""

    algorithm: Literal["bpe", "unigram", "wordpiece", "character"] = "bpe"
    """bpe is byte-level (GPT-2), unigram as in SentencePiece (T5), wordpiece as in BERT; character has a token for
    each, as speech recognition with CTC wants it (wav2vec2)."""
    vocab_size: Annotated[int, Field(ge=64, le=2_000_000)] = 32_768
    """Number of entries, special tokens included; of characters, the most: the rarest are left out then."""
    sample_documents: Annotated[int, Field(ge=100, le=10_000_000)] = 1_000_000
    """At most this many documents are read, spread evenly over the sources."""


class TokenizerAdaptation(Spec):
    """Tokens added to the parent's tokenizer for the words of the job's training data; none of its own changes.

    Frequent pairs of its tokens become tokens, whose embeddings begin as the mean of their pieces'.
    """

    tokens: Annotated[int, Field(ge=1, le=1_000_000)]
    """Tokens added."""
    sample_documents: Annotated[int, Field(ge=100, le=10_000_000)] = 1_000_000
    """At most this many documents are read, spread evenly over the sources."""


class Tokenizer(OneOf):
    """How text becomes tokens; a model that comes `from` somewhere brings its own."""

    train: TokenizerTraining | None = None
    """Train a new tokenizer on the job's training data."""
    adapt: TokenizerAdaptation | None = None
    """Extend the tokenizer of model.from by words of the job's training data."""
    from_: Annotated[From | None, Field(alias="from")] = None
    """Use the tokenizer of an existing model."""
