"""Which documents are held out to judge the model: decided by content, so that equal documents fall on one side."""

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from pretune_api.base import OneOf
from pretune_api.tasks import context_column, image_column
from pretune_trainer.data.example import Row, content_of, unless_blank

_ALL: Final = 2**64
HINT: Final = "equal documents stay together, and a text file is one document, unless its source has document: line"
"""What explains that one side is left without documents."""


@dataclass(frozen=True)
class SplitKey:
    """The columns whose content decides which rows are held out: rows with the same fall on one side."""

    image: str | None = None
    """Column with images, as `image_column` has it, which decides in place of the source's own; else None."""
    context: str | None = None
    """Column with what a question is about, as `context_column` has it, which decides, too, where a row has any: all
    rows may ask the same of different texts; else None."""


OWN_CONTENT: Final = SplitKey()
"""The source's own column alone decides."""


def split_key(learn: OneOf) -> SplitKey:
    """What decides which rows are held out where `learn` is learnt, an objective or a task."""
    return SplitKey(image_column(learn), context_column(learn))


@dataclass(frozen=True)
class Holdout:
    """Holds out a share of the documents."""

    fraction: float
    """Share of them, from 0 (none) to 1 (all)."""
    key: SplitKey = OWN_CONTENT
    """What decides which."""

    def __call__(self, row: Row) -> bool:
        """Whether the row is held out: a hash of its content, as a number from 0 to 1, is below the fraction."""
        if self.fraction in (0.0, 1.0):
            return bool(self.fraction)
        content = _content(row.value(self.key.image or row.column))
        if context := self._context(row):
            content += b"\n\n" + _content(context)
        digest = hashlib.blake2b(content, digest_size=8).digest()
        return int.from_bytes(digest, "big") < self.fraction * _ALL

    def _context(self, row: Row) -> str:
        """What the row's question is about; empty where it has none."""
        return "" if self.key.context is None else unless_blank(row.values.get(self.key.context))


def _content(value: object) -> bytes:
    content = content_of(value)
    if content is not None:
        return content
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text.encode("utf-8", "surrogatepass")
