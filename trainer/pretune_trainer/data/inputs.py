"""What a job reads: its sources, what of them is held out, and a fingerprint of the whole."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from pretune_api.data import Data
from pretune_trainer.data.cache_index import Side
from pretune_trainer.data.example import Row
from pretune_trainer.data.holdout import OWN_CONTENT, Holdout, SplitKey
from pretune_trainer.data.readers import is_cut
from pretune_trainer.data.sources import OpenedSource, SourceFile, open_sources


@dataclass(frozen=True)
class DataSource:
    """A source of the job, and what of it is held out."""

    opened: OpenedSource
    """The source."""
    holdout: Holdout
    """Held-out documents."""
    held_out_for: Side = "validation"
    """The side that these fall on."""

    @property
    def is_only_judged(self) -> bool:
        """Whether nothing of it is learnt from."""
        return self.holdout.fraction == 1.0

    @property
    def sides(self) -> list[Side]:
        """The sides that its documents can fall on."""
        if self.is_only_judged:
            return [self.held_out_for]
        return ["train", self.held_out_for] if self.holdout.fraction else ["train"]

    def side_of(self, row: Row) -> Side:
        """The side that a document falls on."""
        return self.held_out_for if self.holdout(row) else "train"


def data_sources(data: Data, key: SplitKey = OWN_CONTENT) -> list[DataSource]:
    """The training sources, of which `key` decides what is held out, then those of the validation and of the test."""
    held_out = data.validation
    fraction = held_out.fraction if held_out and held_out.fraction else 0.0
    holdout = Holdout(fraction, key)
    sources = [DataSource(opened, holdout) for opened in open_sources(data.train, "spec.data.train")]
    if held_out and held_out.sources:
        apart = open_sources(held_out.sources, "spec.data.validation.sources")
        sources += [DataSource(opened, Holdout(1.0)) for opened in apart]
    if data.test:
        sources += [DataSource(opened, Holdout(1.0), "test") for opened in open_sources(data.test, "spec.data.test")]
    return sources


def fingerprint(sources: Sequence[DataSource], files: Sequence[Sequence[SourceFile]]) -> list[object]:
    """Names what the sources hold and how it is read, wherever they lie."""
    return [
        {
            "files": [(file.name, file.size, file.modified, file.format, file.compression) for file in listed],
            "column": source.opened.source.column,
            "document": source.opened.source.document,
            "values": source.opened.source.values,
            "heldOut": source.holdout.fraction,
            **({"heldOutFor": "test"} if source.held_out_for == "test" else {}),
            **({"cut": True} if any(is_cut(source.opened.source, file) for file in listed) else {}),
            **_split(source.holdout),
        }
        for source, listed in zip(sources, files, strict=True)
    ]


def _split(holdout: Holdout) -> dict[str, str]:
    """The columns that decide what is held out, beside the source's own or in its place; none where nothing is."""
    columns = {"heldOutBy": holdout.key.image, "heldOutWith": holdout.key.context} if holdout.fraction else {}
    return {name: column for name, column in columns.items() if column}


def digest_of(*key: object) -> str:
    """SHA-256 of anything that can be written as JSON, in hex."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
