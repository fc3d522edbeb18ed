"""All that training starts from: parent, tokenizer, task, token cache."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from pretune_api.base import Spec
from pretune_api.images import Pictures
from pretune_api.model import Architecture
from pretune_api.run_config import Parent, RunConfig
from pretune_api.speech import SpeechRecognition
from pretune_api.tasks import (
    OWN_COLUMN,
    Chat,
    QuestionAnswering,
    SequenceClassification,
    SequenceRegression,
    column_field,
    image_column,
    text_columns,
)
from pretune_trainer.data.adapt import Added
from pretune_trainer.data.cleaning.clean import Cleaned, cleaned
from pretune_trainer.data.corpus import Corpus
from pretune_trainer.data.few_shot import few_shot
from pretune_trainer.data.groups import grouping_of
from pretune_trainer.data.holdout import split_key
from pretune_trainer.data.images import Images
from pretune_trainer.data.storage_overlap import check_storage_overlap
from pretune_trainer.data.token_cache import TokenCache, token_cache
from pretune_trainer.data.tokenise import Tokenisation
from pretune_trainer.data.tokenizer import adapted_tokenizer, tokenizer_digest, trained_tokenizer
from pretune_trainer.data.vocabulary import Form, form_for
from pretune_trainer.errors import MissingColumnError, UserError
from pretune_trainer.methods import METHODS, Tuned
from pretune_trainer.model.attention import PACKING_FAMILIES, VARLEN, attention_for, needs_masks
from pretune_trainer.model.build import Build
from pretune_trainer.model.image_size import images_for
from pretune_trainer.model.origin import Source, is_encoder_decoder, model_type, textless_type, token_types
from pretune_trainer.model.parent_weights import why_not_loaded
from pretune_trainer.model.sounds import Sounds, sounds_for
from pretune_trainer.parallel import Ranks
from pretune_trainer.parents import find_parent
from pretune_trainer.report import Reporter
from pretune_trainer.storage.store import Store
from pretune_trainer.tasks import TASKS, Context, Task

_NO_TOKENIZER: Final = "Couldn't instantiate the backend tokenizer"
"""How transformers begins to say, over many lines, that a model has no tokenizer's files; of some models it makes one
without words instead (BERT, RoBERTa, GPT-2, Qwen2, T5, BART, Gemma)."""
_NONE_THERE: Final = "there is none beside the model; add its tokenizer.json, or set spec.tokenizer"


@dataclass(frozen=True)
class Vocabulary:
    """How text becomes tokens."""

    tokenizer: PreTrainedTokenizerBase | None
    """None where no text is read."""
    digest: str = ""
    """Names it."""
    added: Added | None = None
    """Tokens that the parent does not know."""


@dataclass(frozen=True)
class Design:
    """What a run learns, and with which model."""

    config: RunConfig
    build: Build
    """How the model is made."""
    task: Task[Any]
    """What is learnt."""

    def make_model(self) -> Tuned:
        """The model as its method trains it, on the CPU: the same at each call and on each rank."""
        set_seed(self.config.training.seed)
        model = self.task.model(self.build)
        self.task.observe(model)
        _check_recomputable(model, self.config)
        return METHODS[self.config.method.kind](model, self.config.method.value)


@dataclass(frozen=True)
class Inputs(Design):
    """What a run learns, from what, and with which model."""

    model_digest: str
    """Names the model that training starts from."""
    cache: TokenCache
    """The data, tokenised."""
    vocabulary_digest: str
    """Names the tokenizer; empty where no text is read."""
    clean: Cleaned | None
    """What was left out of the data; None where nothing was to be cleaned."""


def gather_inputs(config: RunConfig, ranks: Ranks, reporter: Reporter) -> Inputs:
    """Find, make or open all of it. Collective.

    Raises:
        UserError: the parent, the tokenizer, the data or the spec do not fit.
        StopRequestedError: asked to stop while the token cache was made.
    """
    with naming_columns(config):
        origin, model_digest = _origin(config, ranks)
        storage, stop = Store.open(config.storage), reporter.stop_requested
        check_spec(config)
        key = split_key(config.learn)
        clean = cleaned(config.data, text_columns(config.learn), storage, ranks, stop, key)
        vocabulary = _vocabulary(config, ranks, stop, clean)
        made = design(config, origin, vocabulary, ranks.device)
        grouping = grouping_of(config.data, config.evaluation)
        tokenisation = Tokenisation(config.data, made.task, vocabulary.digest, key, clean, grouping)
        cache = token_cache(tokenisation, storage, ranks, stop)
        made.task.check_documents(cache.documents - cache.dropped)
        if config.data.examples_per_class is not None:
            cache = few_shot(cache, made.task, config.data.examples_per_class, config.training.seed)
        return Inputs(config, made.build, made.task, model_digest, cache, vocabulary.digest, clean)


@contextmanager
def naming_columns(config: RunConfig) -> Iterator[None]:
    """Say of a column that is not there which field of the objective or task names it.

    Raises:
        UserError: one of these is not there.
    """
    try:
        yield
    except MissingColumnError as error:
        if (field := column_field(config.learn, error.column)) is None:
            raise
        raise UserError(f"spec.{config.part}.{field}", str(error)) from error


def design(config: RunConfig, origin: Architecture | Source, vocabulary: Vocabulary, device: torch.device) -> Design:
    """What is learnt, and how the model is made that `device` computes; no data is looked at.

    Raises:
        UserError: the model, the tokenizer and what is to be learnt do not fit.
    """
    images, sounds = _images(config, origin), _sounds(config, origin)
    packs, attention = _packing(config, origin, device)
    spec = config.learn.value
    assert isinstance(spec, Spec), "every objective and task is a part of the API"
    context = Context(
        spec=spec,
        text=vocabulary.tokenizer,
        sequence_length=config.data.sequence_length,
        packs=packs,
        by_boundaries=attention == VARLEN,
        seed=config.training.seed,
        encoder_decoder=is_encoder_decoder(origin),
        token_types=token_types(origin),
        metrics=config.evaluation.metrics,
        pictures=images,
        sounds=sounds,
        texts_change=config.data.cleaning is not None and config.data.cleaning.edits,
        part=config.part,
    )
    task = TASKS[config.stage](context)
    _check_metrics(config, task)
    build = Build(
        origin=origin,
        text=vocabulary.tokenizer,
        sequence_length=config.data.sequence_length,
        attention=attention if task.layout.packs else None,
        images=images,
        extractor=sounds.extractor if sounds else None,
        virtual_tokens=config.method.virtual_tokens,
        added=vocabulary.added,
    )
    return Design(config, build, task)


def _packing(config: RunConfig, origin: Architecture | Source, device: torch.device) -> tuple[bool, str | None]:
    """Whether documents may share a row, as the model keeps them apart; and the attention by which it then does."""
    # Virtual tokens stand before a row, not before each of its documents.
    packs = model_type(origin) in PACKING_FAMILIES and not config.method.virtual_tokens
    masked = packs and needs_masks(origin)
    return packs, attention_for(device, config.training.precision, packs=packs, masked=masked)


def _origin(config: RunConfig, ranks: Ranks) -> tuple[Architecture | Source, str]:
    """Where the weights come from, and a digest of it."""
    architecture = config.model.architecture
    if architecture is not None:
        return architecture, f"sha256:{sha256(architecture.model_dump_json().encode()).hexdigest()}"
    assert config.model.parent is not None, "a model is new, or has a parent"
    found = find_parent(config.model.parent, config.storage, ranks, "spec.model.from")
    return found.source, found.digest


def _images(config: RunConfig, origin: Architecture | Source) -> Images | None:
    """How images become pixels, where they are read."""
    spec = config.learn.value
    if not isinstance(spec, Pictures):
        return None
    return images_for(origin, spec.image_size, f"spec.{config.part}.{config.stage}.imageSize")


def _sounds(config: RunConfig, origin: Architecture | Source) -> Sounds | None:
    """What the model hears, where audio is read."""
    spec = config.learn.value
    if not isinstance(spec, SpeechRecognition):
        return None
    return sounds_for(origin, spec, f"spec.{config.part}.{config.stage}")


def _vocabulary(config: RunConfig, ranks: Ranks, stop: Callable[[], bool], clean: Cleaned | None) -> Vocabulary:
    """How text becomes tokens."""
    if config.tokenizer is None:
        return Vocabulary(None)
    storage = Store.open(config.storage)
    corpus = Corpus(config.data, text_columns(config.learn), clean, split_key(config.learn))
    if (training := config.tokenizer.train) is not None:
        folder = trained_tokenizer(training, corpus, storage, ranks, stop, tokenizer_form(config))
        return Vocabulary(load_tokenizer(Source(str(folder))), tokenizer_digest(folder))
    if (adaptation := config.tokenizer.adapt) is not None:
        parent = _existing(adaptation.parent, config, ranks)
        assert parent.tokenizer is not None, "an existing model of text has a tokenizer"
        folder = adapted_tokenizer(adaptation, parent.tokenizer, parent.digest, corpus, storage, ranks, stop)
        return _adapted(folder)
    assert config.tokenizer.parent is not None, "a tokenizer is trained or adapted, or has a parent"
    return _existing(config.tokenizer.parent, config, ranks)


def tokenizer_form(config: RunConfig) -> Form:
    """The form of the tokenizer that a job trains."""
    new = config.model.architecture
    # Of an unknown type `design` tells.
    both = new is not None and new.type in CONFIG_MAPPING and is_encoder_decoder(new)
    return form_for(config.learn, encoder_decoder=both)


def _existing(parent: Parent, config: RunConfig, ranks: Ranks) -> Vocabulary:
    found = find_parent(parent, config.storage, ranks, "spec.tokenizer", "unread")
    digest = found.digest if parent.hub is not None else tokenizer_digest(Path(found.source.name))
    return Vocabulary(load_tokenizer(found.source), digest)


def _adapted(folder: Path) -> Vocabulary:
    added, tokenizer = Added.load(folder), load_tokenizer(Source(str(folder)))
    if tokenizer.convert_tokens_to_ids(added.tokens[-1]) != added.first + len(added.tokens) - 1:
        raise UserError("spec.tokenizer.adapt", "transformers would load the parent's tokenizer without added tokens")
    return Vocabulary(tokenizer, tokenizer_digest(folder), added)


def load_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """The tokenizer of an existing model, that can pad.

    Raises:
        UserError: there is none.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source.name, **source.arguments)
    except (ImportError, OSError, TypeError, ValueError, StrictDataclassError) as error:
        if (kind := textless_type(source)) is not None:
            raise UserError("spec.model.from", f"{kind} models read no text; use another parent") from error
        said, nothing_read = why_not_loaded(error), isinstance(error, TypeError)  # wav2vec2's opens no file at all
        said = _NONE_THERE if nothing_read or said.startswith(_NO_TOKENIZER) else said
        raise UserError("spec.tokenizer", f"the tokenizer cannot be loaded: {said}") from error
    if not _has_words(tokenizer):
        raise UserError("spec.tokenizer", f"the tokenizer cannot be loaded: {_NONE_THERE}")
    if tokenizer.pad_token_id is None:
        # GPT-2 and others never padded; what stands in a padded place is never looked at.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def _has_words(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether it has entries beside special tokens; one that was made of nothing has none, or T5's mark of a space."""
    added = tokenizer.added_tokens_decoder.values()
    special = {*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)}
    return len(tokenizer.get_vocab().keys() - special) > 1


def check_spec(config: RunConfig) -> None:
    """Refuse what does not go together, whatever model and data turn out to be.

    Raises:
        UserError: two parts of the spec exclude each other.
    """
    check_storage_overlap(config.data, config.storage, config.job.namespace)
    _check_second_columns(config)
    _check_cleaning(config)
    _check_recomputing(config)


def _check_second_columns(config: RunConfig) -> None:
    """Refuse a second text, an answer, a context or a system prompt from a source's own column: a text that is read
    twice says no more than once. No rule of the API: jobs of earlier versions may break it.
    """
    learn = config.learn
    if not isinstance(learn.value, Chat | SequenceClassification | SequenceRegression):
        return
    own = {source.column: where for where, source in reversed([*config.data.every_source()])}
    for column in text_columns(learn):
        if column in own:
            raise UserError(
                f"spec.{config.part}.{column_field(learn, column)}",
                f"'{column}' is {own[column]}'s own column already; name another one, or remove it",
            )


def _check_cleaning(config: RunConfig) -> None:
    """Refuse rules on what the data has not, and to change texts where the task knows places in them."""
    cleaning, stage, image = config.data.cleaning, config.stage, image_column(config.learn)
    if cleaning is None:
        return
    where = "spec.data.cleaning"
    if cleaning.edits and isinstance(config.learn.value, QuestionAnswering):
        raise UserError(where, f"mask and c4 change texts, but {stage} has positions in them; remove both")
    if cleaning.images is not None and image is None:
        raise UserError(f"{where}.images", f"{stage} reads no images; remove it")
    if cleaning.duplicates == "near" and image is not None:
        raise UserError(f"{where}.duplicates", "near compares words; set it to exact, which compares images too")
    if cleaning.judges_text and image == OWN_COLUMN:
        raise UserError(where, f"{stage} reads no text; remove length, characters, filters and mask")


def _check_recomputing(config: RunConfig) -> None:
    """Refuse to compute blocks twice where a cache brings keys into them: it would have grown meanwhile."""
    if config.training.activation_checkpointing and config.method.prefix is not None:
        raise UserError(
            "spec.training.activationCheckpointing", "a prefix is lost when blocks are recomputed; remove it"
        )


def _check_recomputable(model: PreTrainedModel, config: RunConfig) -> None:
    """Refuse to compute blocks twice where transformers cannot, as in ALBERT and ResNet."""
    if config.training.activation_checkpointing and not model.supports_gradient_checkpointing:
        where, kind = "spec.training.activationCheckpointing", model.config.model_type
        raise UserError(where, f"the blocks of {kind} models cannot be recomputed; remove it")


def _check_metrics(config: RunConfig, task: Task[Any]) -> None:
    """Refuse names of metrics that the task does not measure."""
    known = ", ".join(task.metrics_known)
    names = config.evaluation.metrics or []
    wanted = [(f"spec.evaluation.metrics[{number}]", name) for number, name in enumerate(names)]
    if config.early_stopping is not None:
        wanted.append(("spec.earlyStopping.metric", config.early_stopping.metric))
    for where, name in wanted:
        if name not in task.metrics_known:
            raise UserError(where, f"{config.stage} does not measure '{name}'; it measures {known}")
