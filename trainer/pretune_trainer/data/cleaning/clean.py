"""Cleans a job's data: all ranks survey it, unit by unit, rank 0 compares all documents and commits the verdicts.

cache/<digest>/units/000012.npz        what is known of each row of a unit: the unit is done
               verdicts/000012.npy     what comes of each row
               cleaning.json data.json manifest.json COMMITTED

It comes before the tokenizer, and depends on nothing but sources and rules: all jobs that have both in common share it,
and those that make it at once write the same, wherever each finds its sources.
"""

import json
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from pretune_api.cleaning import Cleaning
from pretune_api.data import Data
from pretune_api.manifest import Manifest
from pretune_trainer.data.cleaning.duplicates import Documents, decide
from pretune_trainer.data.cleaning.language import check_languages
from pretune_trainer.data.cleaning.reasons import KEPT
from pretune_trainer.data.cleaning.report import REPORT_NAME, DataReport, SourceReport, report
from pretune_trainer.data.cleaning.survey import Rules, Survey, Surveyor
from pretune_trainer.data.cleaning.text import edited
from pretune_trainer.data.commit_cache import read_reports, unit_name
from pretune_trainer.data.example import Row
from pretune_trainer.data.holdout import OWN_CONTENT, SplitKey
from pretune_trainer.data.inputs import DataSource, data_sources, digest_of, fingerprint
from pretune_trainer.data.npy import npy
from pretune_trainer.data.readers import Unit, rows
from pretune_trainer.data.shelf import Shelf
from pretune_trainer.data.work import Work, find_work, share, work_together
from pretune_trainer.errors import PretuneError, UserError
from pretune_trainer.storage.commit import commit, read_commit
from pretune_trainer.storage.store import Store

if TYPE_CHECKING:
    from pretune_trainer.parallel import Ranks

VERSION: Final = 4
"""Of the rules, and of how their verdicts are kept."""
_INDEX: Final = "cleaning.json"
_TURN: Final = 64
"""Rows after which others get a word in."""


@dataclass(frozen=True)
class Cleaned:
    """The verdicts on a job's data."""

    digest: str
    """Names sources and rules: 64 hex digits."""
    report: DataReport
    """What was dropped, and why."""
    _rules: Rules
    _shelf: Shelf = field(repr=False)
    _units: dict[tuple[object, ...], int] = field(repr=False)

    def rows(self, source: DataSource, unit: Unit, found: Iterator[Row]) -> Iterator[Row]:
        """Of all rows of a unit those that stay, as they are to be learnt from.

        Raises:
            PretuneError: they are not those that were cleaned.
        """
        for row, said in zip_longest(found, self._verdicts(unit)):
            if row is None or said is None:
                raise _changed(unit)
            if source.is_only_judged:
                yield row
            elif said == KEPT:
                yield edited(row, self._rules.cleaning, self._rules.columns, Counter())

    def _verdicts(self, unit: Unit) -> list[int]:
        number = self._units.get(_key(unit))
        if number is None:
            raise _changed(unit)
        said: list[int] = np.load(self._shelf.path(_verdicts_name(number))).tolist()
        return said


def cleaned(
    data: Data,
    columns: Sequence[str],
    storage: Store,
    ranks: "Ranks",
    stop: Callable[[], bool],
    split_key: SplitKey = OWN_CONTENT,
) -> Cleaned | None:
    """The verdicts on `data`, made by all ranks if nobody has; None where nothing is to be cleaned. Collective.

    `columns` hold text beside the sources' own, `storage` is the storage's root, `stop` says whether to leave early,
    `split_key` decides which rows are held out.

    Raises:
        UserError: a source is missing, damaged, or wholly dropped; or a language cannot be told.
        StopRequestedError: asked to stop; what is done is kept for the next time.
    """
    if data.cleaning is None:
        return None
    rules = Rules(data.cleaning, columns, split_key)
    if data.cleaning.language is not None:
        check_languages(data.cleaning.language.keep)
    work = ranks.once(lambda: _plan(data, rules, storage))
    store, sources = storage.child(f"cache/{work.digest}"), data_sources(data, split_key)
    if not work.committed:
        with closing(_survey(work, share(work, ranks), sources, rules, store)) as steps:
            work_together(steps, ranks, stop, "cleaned")
        ranks.once(lambda: _commit(work.units, sources, rules.cleaning, store))
    return _open(store, work.digest, rules, [source.opened.source.uri for source in sources])


def _plan(data: Data, rules: Rules, storage: Store) -> Work:
    sources = data_sources(data, rules.split_key)
    files = [source.opened.files() for source in sources]
    asked = (rules.cleaning.model_dump(mode="json"), list(rules.columns), rules.split_key.image)
    digest = digest_of("cleaning", VERSION, fingerprint(sources, files), *asked)
    return find_work(digest, sources, files, storage)


def _survey(
    work: Work, mine: Sequence[int], sources: Sequence[DataSource], rules: Rules, store: Store
) -> Generator[None, None, None]:
    """Yields every few rows."""
    for number in mine:
        unit = work.units[number]
        source = sources[unit.source]
        surveyor = Surveyor(rules, source)
        for count, row in enumerate(rows(source.opened, unit, rules.read)):
            surveyor.add(row)
            if count % _TURN == 0:
                yield
        store.put(unit_name(number), surveyor.survey().to_bytes())


def _commit(units: Sequence[Unit], sources: Sequence[DataSource], cleaning: Cleaning, store: Store) -> None:
    surveys = [Survey.from_bytes(content) for content in read_reports(len(units), store)]
    verdicts = _verdicts(units, surveys, sources, cleaning)
    wheres = [source.opened.where for source in sources]  # no URIs: not all jobs that share it have the same
    found = report(surveys, verdicts, [unit.source for unit in units], wheres, cleaning)
    for source, each in zip(sources, found.sources, strict=True):
        _check(source, each)
    index = json.dumps([_key(unit) for unit in units]).encode()
    files = [store.put(_verdicts_name(number), npy(said)) for number, said in enumerate(verdicts)]
    files += [store.put(_INDEX, index), store.put(REPORT_NAME, found.model_dump_json(indent=2).encode())]
    commit(store, Manifest(content="cache", files=sorted(files, key=lambda file: file.path)))


def _verdicts(
    units: Sequence[Unit], surveys: Sequence[Survey], sources: Sequence[DataSource], cleaning: Cleaning
) -> list[NDArray[np.uint8]]:
    """The verdicts of each unit."""
    if cleaning.duplicates is None or not surveys:
        return [survey.verdicts for survey in surveys]
    counts = [len(survey.verdicts) for survey in surveys]
    signatures = [survey.signatures for survey in surveys if len(survey.verdicts)]
    documents = Documents(
        np.concatenate([survey.verdicts for survey in surveys]),
        np.concatenate([survey.digests for survey in surveys]),
        np.concatenate(signatures or [np.zeros((0, 0), np.uint16)]),
        np.concatenate([survey.held_out for survey in surveys]),
        np.repeat([sources[unit.source].is_only_judged for unit in units], counts),
    )
    ends = np.cumsum(counts)
    return np.split(decide(documents), ends[:-1])


def _check(source: DataSource, found: SourceReport) -> None:
    if found.documents and not found.kept:
        reasons = ", ".join(f"{reason} {count}" for reason, count in found.dropped.items())
        raise UserError(
            "spec.data.cleaning",
            f"none of the {found.documents} rows of {source.opened.source.uri} ({found.uri}) is left ({reasons}); "
            "relax the filters, or remove the source",
        )


def _open(store: Store, digest: str, rules: Rules, uris: Sequence[str]) -> Cleaned:
    shelf = Shelf(store, read_commit(store))
    index = json.loads(shelf.path(_INDEX).read_bytes())
    found = DataReport.model_validate_json(shelf.path(REPORT_NAME).read_bytes()).at(uris)
    return Cleaned(digest, found, rules, shelf, {tuple(key): number for number, key in enumerate(index)})


def _key(unit: Unit) -> tuple[object, ...]:
    """Names a unit, wherever its source lies."""
    return unit.source, unit.file.name, *unit.groups, *(unit.span or ())


def _changed(unit: Unit) -> PretuneError:
    """Another attempt cleans what is there then."""
    return PretuneError(f"{unit.file.uri} has changed since it was cleaned; keep the sources while a job reads them")


def _verdicts_name(number: int) -> str:
    return f"verdicts/{number:06d}.npy"
