"""What travels from a source to a model: rows, examples, packs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pretune_trainer.data.features import named
from pretune_trainer.errors import BadRowError, MissingColumnError, shortened

Array = NDArray[np.generic]

Example = Mapping[str, Array]
"""What a task makes of a row: one-dimensional arrays by name, such as {"ids": int32 [n], "label": int32 [1]}."""


def length_of(example: Example) -> int:
    """Length of an example in tokens, or in samples of audio; 1 where it is neither."""
    return next((len(example[name]) for name in ("ids", "audio") if name in example), 1)


def content_of(value: object) -> bytes | None:
    """The file in a column, binary or an object {bytes} as Hugging Face datasets have it; None if neither."""
    found = value.get("bytes") if isinstance(value, Mapping) else value
    return found if isinstance(found, bytes) else None


def kind_of(value: object) -> str:
    """What a column holds, in a word for sentences."""
    return "null" if value is None else type(value).__name__


def unless_blank(value: object) -> str:
    """The text that a column holds where it need not hold any; empty where that is blank, or none."""
    return value if isinstance(value, str) and value.strip() else ""


@dataclass(frozen=True)
class Place:
    """Where a row stands, for messages."""

    uri: str
    """File."""
    row: int
    """Number of the row in the file, from 1: of a record, a line or a document."""
    after: int = 0
    """Byte of the file from which rows are counted."""

    def __str__(self) -> str:
        counted = f" of the lines that begin after byte {self.after}" if self.after else ""
        return f"{self.uri} row {self.row}{counted}"


@dataclass(frozen=True)
class Row:
    """One record of a source."""

    values: Mapping[str, object]
    """The record's columns."""
    place: Place
    """Where it stands."""
    column: str
    """The source's column with the text."""
    holds_text_alone: bool = False
    """Whether its columns can hold nothing but text, as those of CSV: a number is what is written there."""
    features: Mapping[str, object] = field(default_factory=dict)
    """What its file says of its columns, as Hugging Face's datasets does."""
    in_file: Sequence[str] = ()
    """Columns of its file, where not all of them are read."""

    def text(self, column: str | None = None) -> str:
        """The text in a column: the source's own if none is named.

        Raises:
            BadRowError: the column is missing or is no text.
        """
        column = column or self.column
        value = self.value(column)
        if not isinstance(value, str):
            raise BadRowError(str(self.place), f"column '{column}' holds {kind_of(value)}, expected text")
        return value

    def content(self, column: str | None = None) -> bytes:
        """The image, or other file, in a column: the source's own if none is named.

        Raises:
            BadRowError: the column is missing or holds no bytes.
        """
        column = column or self.column
        value = self.value(column)
        found = content_of(value)
        if found is None:
            held = "a path alone" if isinstance(value, Mapping) and value.get("path") else kind_of(value)
            raise BadRowError(
                str(self.place), f"column '{column}' holds {held}, expected bytes, or an object {{bytes}}"
            )
        return found

    def number(self, column: str) -> object:
        """The value of a column with numbers: where there is text alone, the number that is written.

        Raises:
            BadRowError: there is no such column.
        """
        value = self.value(column)
        return _written_number(value) if self.holds_text_alone and isinstance(value, str) else value

    def labels(self, column: str) -> object:
        """The value of a column with labels: their names where numbers stand for them, null where one stands for none.

        Raises:
            BadRowError: there is no such column.
        """
        return named(self.value(column), self.features.get(column))

    def name_in(self, column: str) -> str:
        """The value of a column with names, such as labels or groups; what is no text is written as JSON.

        Raises:
            BadRowError: there is no such column.
        """
        value = self.labels(column)
        return value if isinstance(value, str) else json.dumps(value, default=str)

    def value(self, column: str) -> object:
        """The value of a column.

        Raises:
            BadRowError: there is no such column.
        """
        if column not in self.values:
            known = ", ".join(map(shortened, sorted({*self.values, *self.in_file}))) or "none"
            raise MissingColumnError(str(self.place), column, known)
        return self.values[column]


def _written_number(text: str) -> float | str:
    """As JSON or Python write it; the text where it is none."""
    try:
        return float(text)
    except ValueError:
        return text


@dataclass(frozen=True)
class Pack:
    """Examples that share one row of a batch; one alone (or accompanied) where the task does not pack, none to fill up
    a batch."""

    examples: tuple[Example, ...] = ()
    key: tuple[int, int, int] = (0, 0, 0)
    """(epoch, window, row): names the pack, whatever the ranks and micro-batches."""
    held_out: bool = False
    """Whether the model is judged on it: it is shown as it is, never augmented."""
    slices: tuple[str, ...] = ()
    """Slices that all of its examples belong to, such as language=de, where they are judged."""

    def random(self, seed: int) -> np.random.Generator:
        """Randomness that belongs to this pack: the same on whichever rank it is computed."""
        return np.random.default_rng((seed, *self.key))

    def __len__(self) -> int:
        return sum(map(length_of, self.examples))


@dataclass(frozen=True)
class Layout:
    """How a task's examples are laid into rows."""

    length: int
    """Tokens in a row; no example is longer."""
    packs: bool
    """Whether several examples share a row; otherwise rows are single examples, by length within a step."""
    accompanied: bool = False
    """Whether each single example comes with another one of its window, drawn at random: what it could be taken for."""
    together: str | None = None
    """Array that neighbours share which make sense together alone, such as the question that all windows of a text are
    asked: where not all of the validation is judged, all of them are, or none."""


@dataclass(frozen=True, order=True)
class Cursor:
    """A place in the endless order of packs: exact at any number of ranks."""

    epoch: int = 0
    window: int = 0
    row: int = 0


@dataclass(frozen=True)
class StepPacks:
    """What one rank computes in one optimizer step."""

    packs: list[Pack] = field(default_factory=list)
    """This rank's share of the step's packs: every `size`-th, from `rank` on. Empty packs fill up uneven ranks."""
    after: Cursor = Cursor()
    """Where the next step begins."""
