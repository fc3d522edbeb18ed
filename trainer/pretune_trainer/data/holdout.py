"""Which documents are held out to judge the model: decided by content, so that equal documents fall on one side."""

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from pretune_trainer.data.example import Row, content_of

_ALL: Final = 2**64
HINT: Final = "equal documents stay together, and a text file is one document, unless its source has document: line"
"""What explains that one side is left without documents."""


@dataclass(frozen=True)
class Holdout:
    """Holds out a share of the documents."""

    fraction: float
    """Share of them, from 0 (none) to 1 (all)."""
    column: str | None = None
    """Column whose content decides; None for the source's own."""
    context: str | None = None
    """Column whose content decides, too, where a row has any; None where there is no such column."""

    def __call__(self, row: Row) -> bool:
        """Whether the row is held out: a hash of its content, as a number from 0 to 1, is below the fraction."""
        if self.fraction in (0.0, 1.0):
            return bool(self.fraction)
        content = _content(row.value(self.column or row.column))
        if context := self._context(row):
            content += b"\n\n" + _content(context)
        digest = hashlib.blake2b(content, digest_size=8).digest()
        return int.from_bytes(digest, "big") < self.fraction * _ALL

    def _context(self, row: Row) -> str:
        """What the row's question is about; empty where that is blank, as for whoever learns from it."""
        value = None if self.context is None else row.values.get(self.context)
        return value if isinstance(value, str) and value.strip() else ""


def _content(value: object) -> bytes:
    content = content_of(value)
    if content is not None:
        return content
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text.encode("utf-8", "surrogatepass")
