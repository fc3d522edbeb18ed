"""What is read of a source."""

from pretune_api.data import Source
from pretune_trainer.data.readers import rows, units
from pretune_trainer.data.sources import OpenSource

WHERE = "spec.data.train[0]"


def opened(uri, **fields) -> OpenSource:
    uri = uri if "://" in str(uri) else f"file://{uri}"
    return OpenSource(Source.model_validate({"uri": uri, **fields}), WHERE)


def read(uri, columns=(), **fields):
    """All rows of a source."""
    source = opened(uri, **fields)
    return [row for unit in units(source, 0, source.files()) for row in rows(source, unit, columns)]


def texts(uri, **fields):
    return [row.text() for row in read(uri, **fields)]
