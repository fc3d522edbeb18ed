"""The protocol of an objective or task. A task knows nothing about loops, ranks or devices."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Generic, Self

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from pretune_api.base import Spec
from pretune_trainer.data.example import Array, Example, Layout, Pack, Row
from pretune_trainer.data.images import Images
from pretune_trainer.metrics.base import Metric, Outcome
from pretune_trainer.model.build import Build
from pretune_trainer.model.sounds import Sounds

PLACES: Final = "places"
"""Target with the positions that predict, where not all do."""


@dataclass(frozen=True)
class Batch:
    """Packs, ready for the model."""

    inputs: dict[str, Any]
    """Keyword arguments of the model."""
    targets: dict[str, Tensor]
    """What the loss compares with, by name."""
    counts: dict[str, int]
    """Number of targets, by key of the loss."""
    tokens: int = 0
    """Tokens that are not padding."""
    packs: Sequence[Pack] = ()
    """What the batch was made of, where judging a model needs more than tensors: texts, names of examples."""
    slices: tuple[str, ...] = ()
    """Slices that all of it belongs to, where it is judged."""

    @property
    def predicted(self) -> int:
        """Tokens whose logits are computed."""
        places = self.targets.get(PLACES)
        return self.tokens if places is None else len(places)

    def to(self, device: torch.device) -> Self:
        """The same batch on `device`."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same batch with every tensor changed."""
        inputs = {name: change(value) if isinstance(value, Tensor) else value for name, value in self.inputs.items()}
        return replace(self, inputs=inputs, targets={name: change(value) for name, value in self.targets.items()})


@dataclass(frozen=True)
class Context:
    """What a task is made from."""

    spec: Spec
    """The task's own fields."""
    text: PreTrainedTokenizerBase | None
    """Text to tokens; None where no text is read."""
    sequence_length: int
    """Tokens in a row."""
    packs: bool
    """Whether the model keeps packed documents apart."""
    by_boundaries: bool
    """Whether the attention is told the documents' boundaries; otherwise it finds them in the position ids."""
    seed: int
    """The job's seed."""
    encoder_decoder: bool = False
    """Whether the model has an encoder and a decoder."""
    token_types: int = 0
    """Kinds of tokens that the model tells apart, such as those of two texts; 0 where it tells none."""
    metrics: Sequence[str] | None = None
    """Metrics that are reported, by name; None for all that the task knows."""
    pictures: Images | None = None
    """Images to pixels; None where no image is read."""
    sounds: Sounds | None = None
    """Audio to what the model hears; None where none is read."""
    texts_change: bool = False
    """Whether cleaning changes texts, so that places in them are not where they were."""
    part: str = "task"
    """The part of the spec that says what is learnt: task or objective."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Text to tokens, for a task on text."""
        assert self.text is not None, "a task on text has a tokenizer"
        return self.text

    @property
    def pad(self) -> int:
        """Id of the token that rows are filled up with, for a task on text."""
        pad = self.tokenizer.pad_token_id
        assert isinstance(pad, int), "the tokenizer is given one when it is loaded"
        return pad

    @property
    def images(self) -> Images:
        """Images to pixels, for a task on images."""
        assert self.pictures is not None, "a task on images knows their size"
        return self.pictures

    @property
    def audio(self) -> Sounds:
        """Audio to what the model hears, for a task on speech."""
        assert self.sounds is not None, "a task on speech knows what the model hears"
        return self.sounds


class Task(ABC, Generic[Outcome]):
    """What is learnt: how rows become examples, what is minimised, how a model is judged."""

    couples_rows: bool = False
    """Whether the loss of a row depends on the others of its batch (contrastive, batch normalisation): no accumulation
    then. Known once the model is made."""
    layout: Layout
    """How examples are laid into rows."""
    fingerprint: str
    """Names everything that `examples` depends on, but for the tokenizer: part of the token cache's key."""
    nothing_learnt: str = "they are null, blank or too short"
    """Why rows give no examples, for people."""
    columns: Sequence[str] = ()
    """Columns that `examples` reads beside the source's own: no others are fetched from Parquet."""
    classes: Sequence[str] = ()
    """Names of the classes of which each example belongs to one; none where it is not so."""
    listed_labels: Sequence[str] = ()
    """Labels that the spec lists for the examples to bear; none where it lists none."""
    compares: bool = False
    """Whether the model is compared with itself before training: each example has a "reference" beside it then."""
    metrics_known: Mapping[str, bool] = {"loss": False}
    """Metrics that `metrics()` can report, by name; True where larger is better."""

    @abstractmethod
    def model(self, build: Build) -> PreTrainedModel:
        """The model to train, in float32 on the CPU, with the head that the task needs."""

    def observe(self, model: PreTrainedModel) -> None:
        """Note what batches depend on, of a model that `model` has made here or on another rank: its shapes alone."""

    @abstractmethod
    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """The examples of each row, in order; a long document becomes several.

        Raises:
            BadRowError: a row cannot be learnt from.
        """

    def check_documents(self, count: int) -> None:
        """Refuse data that consists of `count` documents, if these are too few.

        Raises:
            UserError: they are.
        """

    @abstractmethod
    def batch(self, packs: Sequence[Pack]) -> Batch:
        """The packs as tensors on the CPU."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Sums over the batch's targets, by key; the loop divides by the global counts."""

    def settle(self, model: nn.Module) -> None:
        """Bring weights back within the task's bounds after each update; there are none by default."""

    @abstractmethod
    def evaluate(self, model: nn.Module, batch: Batch) -> list[Outcome]:
        """What the model makes of the batch, reduced to what the metrics need: no logits are kept."""

    def reference(self, outcome: Outcome) -> Array:
        """What is kept of an example's outcome before training, where the task compares: float32 [n]."""
        raise NotImplementedError

    def class_of(self, example: Example) -> int:
        """Number of the example's class, where there are classes."""
        raise NotImplementedError

    def labels_of(self, example: Example) -> Collection[int]:
        """Numbers of the labels that the example bears, where the spec lists some."""
        return (self.class_of(example),)

    @abstractmethod
    def metrics(self) -> list[Metric[Outcome]]:
        """New metrics, that have seen nothing."""

    def save(self, folder: Path, config: PretrainedConfig) -> None:
        """Write what other libraries need beside a finished model of this task; nothing by default."""
