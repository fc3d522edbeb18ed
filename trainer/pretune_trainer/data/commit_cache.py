"""The end of tokenising: what every unit has reported becomes one index, and the cache is committed."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from pretune_api.manifest import File, Manifest
from pretune_trainer.data.cache_index import INDEX_NAME, SIDES, BatchEntry, Index, PartEntry, Side, SourceEntry
from pretune_trainer.data.groups import Group, Grouping
from pretune_trainer.data.holdout import HINT
from pretune_trainer.data.inputs import DataSource
from pretune_trainer.data.npy import npy, npz, read_npz
from pretune_trainer.data.readers import Unit
from pretune_trainer.errors import UserError
from pretune_trainer.storage.commit import commit
from pretune_trainer.storage.store import Store

_READERS: Final = 16
"""Reports read at once: each is a small object, and a store's answer takes its time."""
_ADVICE: Final[dict[Side, str]] = {
    "train": "to learn from; lower it, or add data",
    "validation": f"for the validation; raise it, or use validation.sources ({HINT})",
}
"""Where none of the documents falls on a side by its share of them; sources of their own always have some."""


@dataclass(frozen=True)
class UnitPart:
    """Examples of a unit that lie together."""

    side: Side
    group: Group
    file: File
    """Where they lie."""
    batches: list[BatchEntry]
    """What that file consists of."""
    lengths: NDArray[np.int32]
    """Their lengths: int32 [examples]."""

    def head(self) -> dict[str, Any]:
        """All but the lengths, for JSON."""
        batches = [asdict(batch) for batch in self.batches]
        return {"side": self.side, "group": self.group, "file": self.file.model_dump(), "batches": batches}

    @classmethod
    def from_json(cls, head: dict[str, Any], lengths: NDArray[np.int32]) -> Self:
        """The part that was written as `head`."""
        batches = [BatchEntry(**batch) for batch in head["batches"]]
        return cls(head["side"], tuple(head["group"]), File(**head["file"]), batches, lengths)


@dataclass(frozen=True)
class UnitReport:
    """What came of a unit."""

    documents: int = 0
    """Rows read."""
    dropped: int = 0
    """Rows that gave no example."""
    parts: tuple[UnitPart, ...] = ()
    """The parts written."""
    truncated: Mapping[int, int] | None = None
    """How many examples were longer than a row, as the index has it."""

    def to_bytes(self) -> bytes:
        """As `from_bytes` reads it."""
        parts = [part.head() for part in self.parts]
        lengths = {f"lengths{number}": part.lengths for number, part in enumerate(self.parts)}
        head = {"documents": self.documents, "dropped": self.dropped, "parts": parts, "truncated": self.truncated}
        return npz(head, lengths)

    @classmethod
    def from_bytes(cls, content: bytes) -> "UnitReport":
        """A report that was written."""
        head, arrays = read_npz(content)
        parts = [UnitPart.from_json(part, arrays[f"lengths{number}"]) for number, part in enumerate(head["parts"])]
        truncated = head.get("truncated")  # there is none where an older version has begun
        counts = None if truncated is None else {int(length): count for length, count in truncated.items()}
        return cls(head["documents"], head["dropped"], tuple(parts), counts)


@dataclass(frozen=True)
class _Reported:
    """All reports of a source, with the numbers of its units."""

    source: DataSource
    reports: list[tuple[int, UnitReport]]

    @property
    def documents(self) -> int:
        return sum(report.documents for _, report in self.reports)

    @property
    def dropped(self) -> int:
        return sum(report.dropped for _, report in self.reports)

    def by_group(self, side: Side) -> dict[Group, list[UnitPart]]:
        """The parts of a side, by group; of a side without examples, an empty one."""
        found: dict[Group, list[UnitPart]] = {}
        for part in (part for _, report in self.reports for part in report.parts if part.side == side):
            found.setdefault(part.group, []).append(part)
        return dict(sorted(found.items())) or {(): []}


def unit_name(number: int, part: str | None = None) -> str:
    """Where a part of a unit's examples lies, or its report."""
    return f"units/{number:06d}.npz" if part is None else f"parts/{number:06d}-{part}.arrow"


def read_reports(units: int, store: Store) -> Iterator[bytes]:
    """The reports of so many units, in order; several are read at once."""
    with ThreadPoolExecutor(_READERS) as pool:
        yield from pool.map(store.get, map(unit_name, range(units)))


def unit_number(path: str) -> int:
    """The number of the unit whose report lies there."""
    return int(PurePosixPath(path).stem)


def commit_cache(
    units: Sequence[Unit], sources: Sequence[DataSource], grouping: Grouping, nothing_learnt: str, store: Store
) -> None:
    """Write the index and commit; `nothing_learnt` says why rows give no examples.

    Raises:
        UserError: a source has no rows, or none that can be learnt from; or nothing is left on one side; or there are
            too many groups.
    """
    contents = list(read_reports(len(units), store))
    reported = _by_source(units, sources, [UnitReport.from_bytes(content) for content in contents])
    for each in reported:
        _check_source(each, nothing_learnt)
    _check_sides(reported, grouping)
    files = [*_files_of_units(reported, contents), *_write_index(reported, store)]
    manifest = Manifest(content="cache", files=sorted(files, key=lambda file: file.path))
    commit(store, manifest)


def _by_source(units: Sequence[Unit], sources: Sequence[DataSource], reports: Sequence[UnitReport]) -> list[_Reported]:
    reported = [_Reported(source, []) for source in sources]
    for number, (unit, report) in enumerate(zip(units, reports, strict=True)):
        reported[unit.source].reports.append((number, report))
    return reported


def _check_source(reported: _Reported, nothing_learnt: str) -> None:
    opened = reported.source.opened
    where, uri = f"{opened.where}.uri", opened.source.uri
    if reported.documents == 0:
        raise UserError(where, f"{uri} is empty: its files have no rows")
    if reported.documents == reported.dropped:
        raise UserError(where, f"nothing can be learned from the {reported.documents} rows of {uri}: {nothing_learnt}")


def _check_sides(reported: Sequence[_Reported], grouping: Grouping) -> None:
    where, documents = "spec.data.validation.fraction", sum(each.documents for each in reported)
    for side in SIDES:
        wanted = [each for each in reported if side in each.source.sides]
        if wanted and not any(any(each.by_group(side).values()) for each in wanted):
            raise UserError(where, f"none of the {documents} documents is left {_ADVICE[side]}")
        grouping.check({group for each in wanted for group in each.by_group(side)}, side)


def _write_index(reported: Sequence[_Reported], store: Store) -> Iterator[File]:
    entries: dict[Side, list[SourceEntry]] = {side: [] for side in SIDES}
    for number, each in enumerate(reported):
        for side in each.source.sides:
            for group, parts in each.by_group(side).items():
                lengths = np.concatenate([np.zeros(0, np.int32), *(part.lengths for part in parts)])
                file = store.put(f"lengths/{side}-{len(entries[side])}.npy", npy(lengths))
                listed = [PartEntry(part.file.path, part.batches) for part in parts]
                entries[side].append(SourceEntry(number, group, file.path, int(lengths.sum()), listed))
                yield file
    documents, dropped = (sum(each.documents for each in reported), sum(each.dropped for each in reported))
    index = Index(
        documents, dropped, entries["train"], entries["validation"], _truncated(reported), test=entries["test"]
    )
    yield store.put(INDEX_NAME, index.to_json())


def _truncated(reported: Sequence[_Reported]) -> dict[int, int] | None:
    counts = [report.truncated for each in reported for _, report in each.reports]
    known = [each for each in counts if each is not None]
    return dict(sorted(sum(map(Counter, known), Counter()).items())) if len(known) == len(counts) else None


def _files_of_units(reported: Sequence[_Reported], contents: Sequence[bytes]) -> Iterator[File]:
    for each in reported:
        for _, report in each.reports:
            yield from (part.file for part in report.parts)
    for number, content in enumerate(contents):
        yield File(path=unit_name(number), size=len(content), sha256=hashlib.sha256(content).hexdigest())
