"""Makes a token cache: all ranks tokenise, unit by unit, and rank 0 commits the whole.

cache/<digest>/parts/000012-train.arrow, 000012-validation.arrow     examples of a unit, by side; none where empty
               units/000012.npz                                      lengths and counts: the unit is done
               lengths/train-0.npy …  cache.json                     all lengths of a source, the index
               manifest.json  COMMITTED
"""

import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from pretune_api.data import Data
from pretune_api.manifest import COMMITTED_NAME
from pretune_trainer.data.cache_index import SIDES, Side
from pretune_trainer.data.commit_cache import UnitReport, commit_cache, unit_name, unit_number
from pretune_trainer.data.example import Example, Layout, Row
from pretune_trainer.data.holdout import Holdout
from pretune_trainer.data.inputs import DataSource, data_sources, digest_of, fingerprint
from pretune_trainer.data.parts import PartWriter
from pretune_trainer.data.readers import Unit, rows, units
from pretune_trainer.data.shelf import cache_folder
from pretune_trainer.errors import StopRequestedError
from pretune_trainer.storage.client import explained
from pretune_trainer.storage.store import Store

if TYPE_CHECKING:
    from pretune_trainer.parallel import Ranks

VERSION: Final = 1
"""Of the cache's format, and of how rows are read."""
_ROWS: Final = 1000
"""Rows given to the tokenizer at once: it works on them in parallel."""
_CHARACTERS: Final = 4 * 2**20
"""Characters after which fewer rows are enough."""
_SLICE_SECONDS: Final = 1.0
"""How long ranks work before they ask each other whether to go on."""


class Tokenises(Protocol):
    """What the cache needs to know of a task."""

    layout: Layout
    fingerprint: str
    nothing_learnt: str
    columns: Sequence[str]

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """The examples of each row, in order."""


@dataclass(frozen=True)
class Work:
    """What is to be tokenised; the same on every rank."""

    digest: str
    """Names the cache: 64 hex digits."""
    committed: bool
    """Whether it is there already."""
    units: list[Unit]
    """All units, in order; none where it is committed."""
    done: frozenset[int]
    """Numbers of the units that are there already."""


def plan(data: Data, task: Tokenises, tokenizer: str, storage: Store) -> Work:
    """What is to be done, from the sources' listings and the headers of their Parquet files.

    Raises:
        UserError: a source has no files, or one of them is damaged or lacks the column.
    """
    sources = data_sources(data)
    files = [source.opened.files() for source in sources]
    layout = (task.layout.length, task.layout.packs)
    digest = digest_of(
        "tokens", VERSION, fingerprint(sources, files), tokenizer, task.fingerprint, layout, list(task.columns)
    )
    store = storage.child(f"cache/{digest}")
    if store.exists(COMMITTED_NAME):
        return Work(digest, True, [], frozenset())
    found = [
        unit
        for number, (source, listed) in enumerate(zip(sources, files, strict=True))
        for unit in units(source.opened, number, listed)
    ]
    return Work(digest, False, found, frozenset(unit_number(object_.path) for object_ in store.list("units")))


def make(work: Work, data: Data, task: Tokenises, store: Store, ranks: "Ranks", stop: Callable[[], bool]) -> None:
    """Tokenise what is missing, and commit the cache. Collective.

    Raises:
        UserError: a row cannot be learnt from, or a source has none.
        StopRequestedError: asked to stop; finished units are kept.
    """
    sources = data_sources(data)
    with closing(_make_units(work, _share(work, ranks), sources, task, store)) as steps:
        _work_together(steps, ranks, stop)
    ranks.once(lambda: commit_cache(work.units, sources, task.nothing_learnt, store))


def _share(work: Work, ranks: "Ranks") -> list[int]:
    """This rank's part of what is missing: the largest unit goes to whoever has least."""
    loads = [0] * ranks.size
    mine: list[int] = []
    for number in sorted(set(range(len(work.units))) - work.done, key=lambda each: -work.units[each].size):
        rank = loads.index(min(loads))
        loads[rank] += work.units[number].size
        if rank == ranks.rank:
            mine.append(number)
    return mine


def _work_together(work: Iterator[None], ranks: "Ranks", stop: Callable[[], bool]) -> None:
    """Carry out every rank's work, so that an error or a stop on one of them ends it on all within seconds."""
    while True:
        states = ranks.together(lambda: (_worked_to_the_end(work, stop), stop()))
        if any(stopped for _, stopped in states):
            raise StopRequestedError("stopped as asked while the data was tokenised; what is done is kept")
        if all(done for done, _ in states):
            return


def _worked_to_the_end(work: Iterator[None], stop: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _SLICE_SECONDS
    return not any(time.monotonic() > deadline or stop() for _ in work)


def _make_units(
    work: Work, mine: Sequence[int], sources: Sequence[DataSource], task: Tokenises, store: Store
) -> Generator[None, None, None]:
    """Yields after each batch of rows, so that others get a word in."""
    scratch = cache_folder()
    scratch.mkdir(parents=True, exist_ok=True)
    for number in mine:
        unit = work.units[number]
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            yield from _make_unit(number, unit, sources[unit.source], task, store, Path(folder))


def _make_unit(
    number: int, unit: Unit, source: DataSource, task: Tokenises, store: Store, folder: Path
) -> Iterator[None]:
    report = UnitReport()
    with (
        explained("write", f"file://{folder}"),
        PartWriter(folder / "train") as train,
        PartWriter(folder / "validation") as validation,
    ):
        for batch in _batches(rows(source.opened, unit, task.columns)):
            kept = [row for row in batch if row.values.get(row.column, "") is not None]
            report = _add(report, len(batch), _split(kept, source.holdout, task), (train, validation))
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
        characters += len(value) if isinstance(value, str) else 0
        if len(batch) == _ROWS or characters > _CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
