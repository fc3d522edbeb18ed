"""The text that a job's own tokenizer is made from: a sample of its training documents."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, groupby, islice

from pretune_api.data import Data
from pretune_trainer.data.cleaning.clean import Cleaned
from pretune_trainer.data.cleaning.text import text_in
from pretune_trainer.data.example import Row
from pretune_trainer.data.holdout import HINT, OWN_CONTENT, SplitKey
from pretune_trainer.data.inputs import DataSource, data_sources, fingerprint
from pretune_trainer.data.readers import Unit, rows, units
from pretune_trainer.data.sources import OpenedSource, SourceFile
from pretune_trainer.errors import UserError


@dataclass(frozen=True)
class Corpus:
    """The training documents of a job."""

    data: Data
    """The job's data."""
    columns: Sequence[str] = ()
    """Columns with text beside the sources' own."""
    clean: Cleaned | None = None
    """Which documents are left out; None where nothing is cleaned."""
    split_key: SplitKey = OWN_CONTENT
    """What decides which documents are held out, but for images: they are not read."""

    @property
    def key(self) -> list[object]:
        """Names the text, wherever it lies."""
        read = fingerprint(self._sources, self._files)
        return [list(self.columns), read, *([self.clean.digest] if self.clean else [])]

    def sample(self, documents: int) -> Iterator[str]:
        """The texts of at most that many documents, as evenly from the sources, and from their files, as these allow.

        Raises:
            UserError: a source has none, or is damaged; or all documents are held out.
        """
        sources, files = self._sources, self._files
        smallest_first = sorted(range(len(sources)), key=lambda number: sum(file.size for file in files[number]))
        total = 0
        for done, number in enumerate(smallest_first):
            taken = blank = 0
            for text in self._sample_source(number, documents // (len(sources) - done)):
                yield text
                taken += 1
                blank += not text or text.isspace()
            if taken == blank:
                self._refuse_blank(number, taken)
            documents -= taken
            total += taken
        if not total:
            said = f"all documents are held out, none is left to learn from; lower it, or add data ({HINT})"
            raise UserError("spec.data.validation.fraction", said)

    @cached_property
    def _sources(self) -> list[DataSource]:
        sources = data_sources(self.data, replace(self.split_key, image=None))
        return [source for source in sources if not source.is_only_judged]

    @cached_property
    def _files(self) -> list[list[SourceFile]]:
        return [source.opened.files() for source in self._sources]

    def _sample_source(self, number: int, documents: int) -> Iterator[str]:
        source = self._sources[number]
        smallest_first = sorted(units(source.opened, number, self._files[number]), key=lambda unit: unit.size)
        left = sum(len(unit.files) for unit in smallest_first)
        for unit in smallest_first:
            if not documents:
                return
            for row in _spread(self._rows(source, unit), len(unit.files), documents, left):
                yield document_of(row, self.columns)
                documents -= 1
            left -= len(unit.files)

    def _rows(self, source: DataSource, unit: Unit) -> Iterator[Row]:
        found = rows(source.opened, unit, self.columns)
        for row in self.clean.rows(source, unit, found) if self.clean else found:
            if row.value(row.column) is not None and not source.holdout(row):
                yield row

    def _refuse_blank(self, number: int, taken: int) -> None:
        """Refuse a source that gave no text: nothing, or `taken` blanks; but not one that is all held out."""
        opened = self._sources[number].opened
        lacks = "has no text to learn from, only blanks" if taken else _lacks(opened, number, self._files[number])
        if lacks is not None:
            raise UserError(f"{opened.where}.uri", f"{opened.source.uri} {lacks}")


def _lacks(opened: OpenedSource, number: int, files: Sequence[SourceFile]) -> str | None:
    """Why a source gives no text at all; None where all that it has is held out."""
    lacks = "is empty: it has no documents to learn from"
    for row in chain.from_iterable(rows(opened, unit) for unit in units(opened, number, files)):
        if row.value(row.column) is not None:
            return None
        lacks = "has no documents to learn from: all are null"
    return lacks


def _spread(found: Iterator[Row], files: int, documents: int, left: int) -> Iterator[Row]:
    """Rows of a unit of so many files, as evenly from these as they allow; `documents` are wanted of `left` files."""
    for done, (_, of_file) in enumerate(groupby(found, key=lambda row: row.place.uri), start=1):
        for row in islice(of_file, -(-documents // (left - done + 1))):
            yield row
            documents -= 1
        if done == files or not documents:
            return  # what is left of a large file is not read


def document_of(row: Row, columns: Sequence[str]) -> str:
    """The text of a row; that of other columns stands below it, or alone where its own has none, as images have."""
    value = row.value(row.column)
    others = [text_in(row.value(column)) for column in columns]
    if others and not isinstance(value, str | list):
        return "\n".join(others)
    return "\n".join([text_in(value) if isinstance(value, list) else row.text(), *others])
