"""Makes a token cache: all ranks tokenise, unit by unit, and rank 0 commits the whole.

cache/<digest>/parts/000012-train.arrow, 000012-validation.arrow     examples of a unit, by side; none where empty
               units/000012.npz                                      lengths and counts: the unit is done
               lengths/train-0.npy …  cache.json                     all lengths of a source, the index
               manifest.json  COMMITTED
"""

import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from pretune_api.data import Data
from pretune_trainer.data.cache_index import SIDES, Side
from pretune_trainer.data.cleaning.clean import Cleaned
from pretune_trainer.data.commit_cache import UnitReport, commit_cache, unit_name
from pretune_trainer.data.example import Example, Layout, Row, content_of
from pretune_trainer.data.holdout import Holdout
from pretune_trainer.data.inputs import DataSource, data_sources, digest_of, fingerprint
from pretune_trainer.data.parts import PartWriter
from pretune_trainer.data.readers import rows
from pretune_trainer.data.shelf import cache_folder
from pretune_trainer.data.work import Work, find_work, share, work_together
from pretune_trainer.storage.client import explained
from pretune_trainer.storage.store import Store

if TYPE_CHECKING:
    from pretune_trainer.parallel import Ranks

VERSION: Final = 1
"""Of the cache's format, and of how rows are read."""
_ROWS: Final = 1000
"""Rows given to the tokenizer at once: it works on them in parallel."""
_CHARACTERS: Final = 4 * 2**20
"""Characters, or bytes of images, after which fewer rows are enough."""


class Tokenises(Protocol):
    """What the cache needs to know of a task."""

    layout: Layout
    fingerprint: str
    nothing_learnt: str
    columns: Sequence[str]

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """The examples of each row, in order."""


def plan(data: Data, task: Tokenises, tokenizer: str, storage: Store, clean: Cleaned | None) -> Work:
    """What is to be done, from the sources' listings and the headers of their Parquet files.

    Raises:
        UserError: a source has no files, or one of them is damaged or lacks the column.
    """
    sources = data_sources(data)
    files = [source.opened.files() for source in sources]
    layout = (task.layout.length, task.layout.packs)
    digest = digest_of(
        "tokens",
        VERSION,
        fingerprint(sources, files),
        tokenizer,
        task.fingerprint,
        layout,
        list(task.columns),
        *([clean.digest] if clean else []),
    )
    return find_work(digest, sources, files, storage)


def make(
    work: Work,
    data: Data,
    task: Tokenises,
    store: Store,
    ranks: "Ranks",
    stop: Callable[[], bool],
    clean: Cleaned | None,
) -> None:
    """Tokenise what is missing, and commit the cache. Collective.

    Raises:
        UserError: a row cannot be learnt from, or a source has none.
        StopRequestedError: asked to stop; finished units are kept.
    """
    sources = data_sources(data)
    with closing(_make_units(work, share(work, ranks), sources, task, store, clean)) as steps:
        work_together(steps, ranks, stop, "tokenised")
    ranks.once(lambda: commit_cache(work.units, sources, task.nothing_learnt, store))


def _make_units(
    work: Work,
    mine: Sequence[int],
    sources: Sequence[DataSource],
    task: Tokenises,
    store: Store,
    clean: Cleaned | None,
) -> Generator[None, None, None]:
    """Yields after each batch of rows, so that others get a word in."""
    scratch = cache_folder()
    scratch.mkdir(parents=True, exist_ok=True)
    for number in mine:
        unit = work.units[number]
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            source = sources[unit.source]
            found = rows(source.opened, unit, task.columns)
            kept = clean.rows(source, unit, found) if clean else found
            yield from _make_unit(number, kept, source.holdout, task, store, Path(folder))


def _make_unit(
    number: int, found: Iterator[Row], holdout: Holdout, task: Tokenises, store: Store, folder: Path
) -> Iterator[None]:
    report = UnitReport()
    with (
        explained("write", f"file://{folder}"),
        PartWriter(folder / "train") as train,
        PartWriter(folder / "validation") as validation,
    ):
        for batch in _batches(found):
            kept = [row for row in batch if row.values.get(row.column, "") is not None]
            report = _add(report, len(batch), _split(kept, holdout, task), (train, validation))
            yield
    lengths: dict[Side, NDArray[np.int32]] = {"train": train.lengths, "validation": validation.lengths}
    files = [store.put(unit_name(number, side), folder / side) for side in SIDES if len(lengths[side])]
    store.put(unit_name(number), replace(report, files=files, lengths=lengths).to_bytes())


def _split(rows: Sequence[Row], holdout: Holdout, task: Tokenises) -> Iterator[tuple[bool, list[Example]]]:
    """Of each row, whether it is held out, and its examples."""
    return zip((holdout(row) for row in rows), task.examples(rows), strict=True)


def _add(
    report: UnitReport, count: int, made: Iterator[tuple[bool, list[Example]]], writers: tuple[PartWriter, PartWriter]
) -> UnitReport:
    given = 0
    sides: tuple[list[Example], list[Example]] = ([], [])
    for held_out, examples in made:
        given += bool(examples)
        sides[held_out].extend(examples)
    for writer, examples in zip(writers, sides, strict=True):
        writer.add(examples)
    return replace(report, documents=report.documents + count, dropped=report.dropped + count - given)


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    characters = 0
    for row in rows:
        batch.append(row)
        value = row.values.get(row.column)
        characters += len(value if isinstance(value, str) else content_of(value) or "")
        if len(batch) == _ROWS or characters > _CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
