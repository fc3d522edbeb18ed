"""What a job learns from, and what it is judged on."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pretune_api.base import OneOf, Rule, Spec
from pretune_api.cleaning import Cleaning
from pretune_api.storage import Location
from pretune_api.units import ColumnName


class Source(Location):
    """One collection of documents: a file, a folder or a glob."""

    format: Literal["parquet", "jsonl", "text", "image", "audio"] | None = None
    """Format of the files; without it, each file's name decides (.parquet, .jsonl, .txt, .png, .jpg, .wav, .flac,
    .mp3, .ogg; and .gz, .zst)."""
    column: ColumnName = "text"
    """Column that holds the text (for chat: the list of messages), the image or the audio. Ignored for files of text,
    images or audio; of images with a metadata.csv or metadata.jsonl beside them, it is a column of that."""
    document: Literal["file", "line"] = "file"
    """For plain text: whether a whole file or a line is one document."""
    values: Annotated[dict[str, Annotated[str, Field(max_length=256)]], Field(max_length=8)] = {}
    """Columns that have the same value in every row of this source, such as {language: de}; its files need not have
    them."""
    weight: Annotated[float | None, Field(gt=0.0, le=1_000_000.0)] = None
    """Share of the training tokens, relative to the other sources' weights; without any, size decides."""


Sources = Annotated[list[Source], Field(min_length=1, max_length=64)]


class Validation(OneOf):
    """What is held out to judge the model: a share of every training source, or sources of its own."""

    fraction: Annotated[float | None, Field(gt=0.0, lt=0.5)] = None
    """Share of the documents held out, chosen by content: equal documents fall on the same side."""
    sources: Sources | None = None
    """Sources that are only evaluated on."""


class Mixture(Spec):
    """How languages, or sources, of unequal size are mixed: of n tokens, n^(1/temperature) say how often they come.

    So the small come more often than they are large (multilingual BERT; XLM, whose alpha is 1/temperature; mT5).
    """

    temperature: Annotated[float, Field(ge=1.0, le=100.0)]
    """1 leaves the proportions as they are, 3.3 is that of XLM-R and mT5, 100 makes all nearly alike."""
    column: ColumnName | None = None
    """Column whose values are mixed, such as language, 64 at most; without it, the sources are."""


class Data(Spec):
    """Training and validation data."""

    train: Sources
    """Sources to learn from."""
    mixture: Mixture | None = None
    """How they are mixed, in place of weights."""
    validation: Validation | None = None
    """What evaluations run on; without it, there are none."""
    examples_per_class: Annotated[int | None, Field(ge=1, le=100_000)] = None
    """Training examples of each class, drawn by training.seed (few-shot learning); all when absent."""
    sequence_length: Annotated[int, Field(ge=8, le=1_048_576)] = 1024
    """Tokens in a row; longer documents are cut into pieces, or truncated where a task needs them whole."""
    cleaning: Cleaning | None = None
    """What is dropped from the sources, and masked in them; without it, nothing."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="mixture",
            message="it decides how often each source comes; leave out their weights",
            cel="!has(self.mixture) || !self.train.exists(source, has(source.weight))",
            holds=lambda self: self.mixture is None or all(source.weight is None for source in self.train),
        ),
    )
