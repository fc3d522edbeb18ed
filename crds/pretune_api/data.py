"""The data that a job trains and is evaluated on."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pretune_api.base import OneOf, Rule, Spec
from pretune_api.cleaning import Cleaning
from pretune_api.storage import Location
from pretune_api.units import ColumnName


class Source(Location):
    """A collection of documents: a file, a folder or a glob."""

    format: Literal["parquet", "jsonl", "csv", "text", "image", "audio"] | None = None
    """Format of the files; by default, it is derived from each file's name (.parquet, .jsonl, .csv, .tsv, .txt, .png,
    .jpg, .wav, .flac, .mp3, .ogg; also with .gz or .zst)."""
    column: ColumnName = "text"
    """Column that holds the text (for chat: messages, or a question), the image or the audio. Ignored for text, image
    and audio files; for images with a metadata.csv or metadata.jsonl next to them, it is a column of that file."""
    document: Literal["file", "line"] = "file"
    """For plain text: whether each file or each line is a document."""
    values: Annotated[dict[str, Annotated[str, Field(max_length=256)]], Field(max_length=8)] = {}
    """Columns with the same value in every row of this source, such as {language: de}; its files need not have them."""
    weight: Annotated[float | None, Field(gt=0.0, le=1_000_000.0)] = None
    """Share of the training tokens, relative to the weights of the other sources; if no source sets one, sources are
    sampled in proportion to their size."""


Sources = Annotated[list[Source], Field(min_length=1, max_length=64)]


class Validation(OneOf):
    """Data held out for evaluation: a share of every training source, or separate sources."""

    fraction: Annotated[float | None, Field(gt=0.0, lt=0.5)] = None
    """Share of the documents to hold out, chosen by content: equal documents are either all held out or all trained
    on."""
    sources: Sources | None = None
    """Sources used for evaluation only."""


class Mixture(Spec):
    """How languages or sources of unequal size are mixed: n tokens are sampled in proportion to n^(1/temperature).

    This gives small ones more than their share of the data (multilingual BERT; XLM, whose alpha is 1/temperature; mT5).
    """

    temperature: Annotated[float, Field(ge=1.0, le=100.0)]
    """Sampling temperature: 1 keeps the proportions of the data, 3.3 is the value of XLM-R and mT5, 100 makes all
    shares nearly equal."""
    column: ColumnName | None = None
    """Column whose values are mixed, such as language, with at most 64 values; by default, the sources are mixed."""


class Data(Spec):
    """Training, validation and test data."""

    train: Sources
    """Sources to train on."""
    mixture: Mixture | None = None
    """How the training sources are mixed, instead of by their weights."""
    validation: Validation | None = None
    """Data held out for evaluation; without it, the model is evaluated on data.test alone, if there is any."""
    test: Sources | None = None
    """Sources that the finished model is evaluated on, once, after the best checkpoint has been chosen: nothing else
    depends on them. Their metrics are named test_loss, test_accuracy and so on."""
    examples_per_class: Annotated[int | None, Field(ge=1, le=100_000)] = None
    """Number of training examples per class, sampled with training.seed (few-shot learning); all by default."""
    sequence_length: Annotated[int, Field(ge=8, le=1_048_576)] = 1024
    """Tokens per row; longer documents are split, or truncated if the task uses one row per document."""
    cleaning: Cleaning | None = None
    """Filters, deduplication and masking of the data; none by default."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="mixture",
            message="cannot be combined with weights of sources; remove the weights",
            cel="!has(self.mixture) || !self.train.exists(source, has(source.weight))",
            holds=lambda self: self.mixture is None or all(source.weight is None for source in self.train),
        ),
    )

    def every_source(self) -> Iterator[tuple[str, Source]]:
        """All sources, each after its field, such as spec.data.train[0]."""
        apart = self.validation.sources if self.validation else None
        fields = {
            "spec.data.train": self.train,
            "spec.data.validation.sources": apart or [],
            "spec.data.test": self.test or [],
        }
        for field, sources in fields.items():
            yield from ((f"{field}[{number}]", source) for number, source in enumerate(sources))
