"""Makes a token cache: all ranks tokenise, unit by unit, and rank 0 commits the whole.

cache/<digest>/parts/000012-train.arrow, 000012-validation.arrow     examples of a unit, by side; none where empty
                     000012-validation-1.arrow …                   and by group, where rows are kept apart
               units/000012.npz                                      lengths and counts: the unit is done
               lengths/train-0.npy …  cache.json                     all lengths of a source, the index
               manifest.json  COMMITTED
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from pretune_api.data import Data
from pretune_trainer.data.cache_index import SIDES, Side
from pretune_trainer.data.cleaning.clean import Cleaned
from pretune_trainer.data.commit_cache import UnitPart, UnitReport, commit_cache, unit_name
from pretune_trainer.data.example import Example, Layout, Row, content_of
from pretune_trainer.data.groups import TOGETHER, Group, Grouping
from pretune_trainer.data.holdout import OWN_CONTENT, SplitKey
from pretune_trainer.data.inputs import DataSource, data_sources, digest_of, fingerprint
from pretune_trainer.data.parts import PartWriter
from pretune_trainer.data.readers import rows
from pretune_trainer.data.shelf import cache_folder
from pretune_trainer.data.truncation import lengths_needed
from pretune_trainer.data.work import Work, find_work, share, work_together
from pretune_trainer.storage.client import explained
from pretune_trainer.storage.store import Store

if TYPE_CHECKING:
    from pretune_trainer.parallel import Ranks

VERSION: Final = 4
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


@dataclass(frozen=True)
class Tokenisation:
    """What a token cache is made of, and how: the same of each makes the same cache."""

    data: Data
    """The job's data."""
    task: Tokenises
    """What makes examples of its rows."""
    tokenizer: str
    """Digest of the tokenizer; empty where no text is read."""
    split_key: SplitKey = OWN_CONTENT
    """What decides which rows are held out."""
    clean: Cleaned | None = None
    """Which documents are left out; None where nothing is cleaned."""
    grouping: Grouping = TOGETHER
    """Which rows are kept apart."""

    @cached_property
    def sources(self) -> list[DataSource]:
        """The training sources, then those of the validation and of the test."""
        return data_sources(self.data, self.split_key)


def plan(tokenisation: Tokenisation, storage: Store) -> Work:
    """What is to be done, from the sources' listings and the headers of their Parquet files.

    Raises:
        UserError: a source has no files, or one of them is damaged or lacks the column.
    """
    sources, task, clean = tokenisation.sources, tokenisation.task, tokenisation.clean
    files = [source.opened.files() for source in sources]
    digest = digest_of(
        "tokens",
        VERSION,
        fingerprint(sources, files),
        tokenisation.tokenizer,
        task.fingerprint,
        (task.layout.length, task.layout.packs),
        list(task.columns),
        [tokenisation.grouping.train, tokenisation.grouping.validation],
        *([clean.digest] if clean else []),
    )
    return find_work(digest, sources, files, storage)


def make(tokenisation: Tokenisation, work: Work, store: Store, ranks: "Ranks", stop: Callable[[], bool]) -> None:
    """Tokenise what is missing, and commit the cache. Collective.

    Raises:
        UserError: a row cannot be learnt from, or a source has none; or the grouping makes too many groups.
        StopRequestedError: asked to stop; finished units are kept.
    """
    sources, grouping, nothing_learnt = tokenisation.sources, tokenisation.grouping, tokenisation.task.nothing_learnt
    with closing(_make_units(tokenisation, work, share(work, ranks), store)) as steps:
        work_together(steps, ranks, stop, "tokenised")
    ranks.once(lambda: commit_cache(work.units, sources, grouping, nothing_learnt, store))


def _make_units(
    tokenisation: Tokenisation, work: Work, mine: Sequence[int], store: Store
) -> Generator[None, None, None]:
    """Yields after each batch of rows, so that others get a word in."""
    scratch, grouping = cache_folder(), tokenisation.grouping
    scratch.mkdir(parents=True, exist_ok=True)
    for number in mine:
        unit = work.units[number]
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            source = tokenisation.sources[unit.source]
            found = rows(source.opened, unit, [*tokenisation.task.columns, *grouping.columns])
            kept = tokenisation.clean.rows(source, unit, found) if tokenisation.clean else found
            yield from _make_unit(number, kept, source, tokenisation.task, store, _Parts(Path(folder), grouping))


class _Parts:
    """The parts that a unit is written to: one for each side, and each group of its rows."""

    def __init__(self, folder: Path, grouping: Grouping) -> None:
        self._folder, self._grouping = folder, grouping
        self._stack = ExitStack()
        self._writers: dict[Side, dict[Group, PartWriter]] = {side: {} for side in SIDES}

    def __enter__(self) -> Self:
        self._stack.enter_context(explained("write", f"file://{self._folder}"))
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def add(self, side: Side, row: Row, examples: Sequence[Example]) -> None:
        """Append the examples of a row.

        Raises:
            UserError: there are too many groups.
        """
        writers, group = self._writers[side], self._grouping.of(row, side)
        if group not in writers:
            self._grouping.check([*writers, group], side)
            name = _part_name(side, len(writers), group)
            writers[group] = self._stack.enter_context(PartWriter(self._folder / name))
        writers[group].add(examples)

    def put(self, number: int, store: Store) -> Iterator[UnitPart]:
        """Send all of them to the store, once they are closed."""
        for side, writers in self._writers.items():
            for place, (group, writer) in enumerate(writers.items()):
                name = _part_name(side, place, group)
                file = store.put(unit_name(number, name), self._folder / name)
                yield UnitPart(side, group, file, writer.batches, writer.lengths)


def _part_name(side: Side, place: int, group: Group) -> str:
    return f"{side}-{place}" if group else side


def _make_unit(
    number: int, found: Iterator[Row], source: DataSource, task: Tokenises, store: Store, parts: _Parts
) -> Iterator[None]:
    report, truncated = UnitReport(), Counter[int]()
    with parts:
        for batch in _batches(found):
            kept = [row for row in batch if row.values.get(row.column, "") is not None]
            given = 0
            for row, examples in zip(kept, task.examples(kept), strict=True):
                if examples:
                    parts.add(source.side_of(row), row, examples)
                    given += 1
                    truncated.update(lengths_needed(examples))
            report = replace(
                report, documents=report.documents + len(batch), dropped=report.dropped + len(batch) - given
            )
            yield
    report = replace(report, parts=tuple(parts.put(number, store)), truncated=truncated)
    store.put(unit_name(number), report.to_bytes())


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += sum(map(_size, row.values.values()))
        if len(batch) == _ROWS or characters > _CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _size(value: object) -> int:
    """Characters of a text, bytes of a file."""
    return len(value if isinstance(value, str) else content_of(value) or "")
