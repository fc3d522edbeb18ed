"""What a job learns from, and what it is judged on."""

from typing import Annotated, Literal

from pydantic import Field

from pretune_api.base import OneOf, Spec
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
    images or audio."""
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


class Data(Spec):
    """Training and validation data."""

    train: Sources
    """Sources to learn from."""
    validation: Validation | None = None
    """What evaluations run on; without it, there are none."""
    examples_per_class: Annotated[int | None, Field(ge=1, le=100_000)] = None
    """Training examples of each class, drawn by training.seed (few-shot learning); all when absent."""
    sequence_length: Annotated[int, Field(ge=8, le=1_048_576)] = 1024
    """Tokens in a row; longer documents are cut into pieces, or truncated where a task needs them whole."""
    cleaning: Cleaning | None = None
    """What is dropped from the sources, and masked in them; without it, nothing."""
