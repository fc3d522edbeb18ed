"""What a token cache holds, as its index file lists it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

from pydantic import TypeAdapter

Side = Literal["train", "validation", "test"]
SIDES: Final[tuple[Side, ...]] = ("train", "validation", "test")
INDEX_NAME: Final = "cache.json"


@dataclass(frozen=True)
class BatchEntry:
    """Examples of a part that lie together, and are fetched together."""

    offset: int
    """Where they begin in the part, in bytes."""
    size: int
    """Bytes."""
    sha256: str
    """SHA-256 of the bytes, in hex."""
    examples: int
    """Number of the examples."""

    @property
    def span(self) -> tuple[int, int]:
        """Where they lie in the part: offset and size, in bytes."""
        return self.offset, self.size


@dataclass(frozen=True)
class PartEntry:
    """A part, as the cache's index lists it."""

    name: str
    """Path below the cache's folder."""
    batches: list[BatchEntry]
    """All that it consists of, in order."""


@dataclass(frozen=True)
class SourceEntry:
    """One source on one side, or a group of its rows, as the cache's index lists it."""

    source: int
    """Number of the source: those of the training first, then those of the validation and of the test."""
    group: tuple[str, ...]
    """Values of the columns that rows are kept apart by; none where they are not."""
    lengths: str
    """Path of the lengths of its examples."""
    tokens: int
    """Tokens in its examples."""
    parts: list[PartEntry]
    """Its parts, in order."""


@dataclass(frozen=True)
class Index:
    """What a cache holds."""

    documents: int
    """Rows read."""
    dropped: int
    """Rows that gave no example: empty, or too short to learn from."""
    train: list[SourceEntry]
    """Training examples, by source."""
    validation: list[SourceEntry]
    """Held-out examples, by source."""
    truncated: Mapping[int, int] | None = None
    """How many examples were longer than a row, by the power of two that would have held them; None in what older
    versions have made."""
    test: Sequence[SourceEntry] = ()
    """Examples of the test, by source."""

    def to_json(self) -> bytes:
        """As `from_json` reads it; without a test, as older versions wrote it: checkpoints name the cache's digest."""
        content = asdict(self)
        if not self.test:
            del content["test"]
        return json.dumps(content).encode()

    @staticmethod
    def from_json(content: bytes) -> "Index":
        """The index that was written as JSON."""
        return _INDEX.validate_json(content)


_INDEX: Final = TypeAdapter(Index)
