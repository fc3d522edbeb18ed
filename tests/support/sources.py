"""What is read of a source."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pretune_api.data import Source
from pretune_trainer.data.example import Row
from pretune_trainer.data.readers import rows, units
from pretune_trainer.data.sources import OpenedSource

WHERE = "spec.data.train[0]"


def opened(uri: str | Path, **fields: Any) -> OpenedSource:
    uri = uri if "://" in str(uri) else f"file://{uri}"
    return OpenedSource(Source.model_validate({"uri": uri, **fields}), WHERE)


def read(uri: str | Path, columns: Sequence[str] = (), **fields: Any) -> list[Row]:
    """All rows of a source."""
    source = opened(uri, **fields)
    return [row for unit in units(source, 0, source.files()) for row in rows(source, unit, columns)]


def texts(uri: str | Path, **fields: Any) -> list[str]:
    return [row.text() for row in read(uri, **fields)]
