"""Work on the units of a job's data: shared among ranks, interrupted with all of them, and not done twice."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pretune_api.manifest import COMMITTED_NAME
from pretune_trainer.data.cache_index import Side
from pretune_trainer.data.commit_cache import unit_number
from pretune_trainer.data.inputs import DataSource
from pretune_trainer.data.readers import Unit, files_with_rows, units
from pretune_trainer.data.sources import SourceFile
from pretune_trainer.errors import StopRequestedError, UserError
from pretune_trainer.storage.store import Store

if TYPE_CHECKING:
    from pretune_trainer.parallel import Ranks

_KNOWN: Final[dict[Side, str]] = {"train": "what it has learnt", "validation": "what it was chosen by"}
"""Why what is on that side must not judge the model."""
_SLICE_SECONDS: Final = 1.0
"""How long ranks work before they ask each other whether to go on."""


@dataclass(frozen=True)
class Work:
    """What is to be done; the same on every rank."""

    digest: str
    """Names the folder of what is made: 64 hex digits."""
    committed: bool
    """Whether it is there already."""
    units: list[Unit]
    """All units, in order; none where it is committed."""
    done: frozenset[int]
    """Numbers of the units that are there already."""


def find_work(
    digest: str, sources: Sequence[DataSource], files: Sequence[Sequence[SourceFile]], storage: Store
) -> Work:
    """What is to be done until `cache/<digest>` is committed.

    Raises:
        UserError: a file is damaged, or lacks its source's column; or it is learnt from and judged on.
    """
    store = storage.child(f"cache/{digest}")
    if store.exists(COMMITTED_NAME):
        return Work(digest, True, [], frozenset())
    check_judged_only(sources, files)
    found = [
        unit
        for number, (source, listed) in enumerate(zip(sources, files, strict=True))
        for unit in units(source.opened, number, listed)
    ]
    return Work(digest, False, found, frozenset(unit_number(object_.path) for object_ in store.list("units")))


def check_judged_only(sources: Sequence[DataSource], files: Sequence[Sequence[SourceFile]]) -> None:
    """Refuse files of validation.sources and test that are in a training source, too, such as the folder that they lie
    in, or those of one in the other.

    Raises:
        UserError: there is one.
    """
    seen: dict[tuple[str | None, str], DataSource] = {}
    for source, listed in zip(sources, files, strict=True):  # those of the training come first, of the test last
        opened = source.opened
        for file in files_with_rows(listed):
            other = seen.setdefault((opened.source.endpoint, file.uri), source)
            if source.is_only_judged and other.sides[0] != source.sides[0]:
                raise UserError(
                    f"{opened.where}.uri",
                    f"{file.uri} is in {other.opened.where}, too, and the model would be judged on "
                    f"{_KNOWN[other.sides[0]]}; keep it apart, or let a glob leave it out there",
                )


def share(work: Work, ranks: "Ranks") -> list[int]:
    """This rank's part of what is missing: the largest unit goes to whoever has least."""
    loads = [0] * ranks.size
    mine: list[int] = []
    for number in sorted(set(range(len(work.units))) - work.done, key=lambda each: -work.units[each].size):
        rank = loads.index(min(loads))
        loads[rank] += work.units[number].size
        if rank == ranks.rank:
            mine.append(number)
    return mine


def work_together(work: Iterator[None], ranks: "Ranks", stop: Callable[[], bool], doing: str) -> None:
    """Carry out every rank's work, so that an error or a stop on one of them ends it on all within seconds. Collective.

    Raises:
        StopRequestedError: asked to stop while the data was being `doing`, such as "tokenised".
    """
    while True:
        states = ranks.together(lambda: (_worked_to_the_end(work, stop), stop()))
        if any(stopped for _, stopped in states):
            raise StopRequestedError(f"stopped as requested while the data was {doing}; what is done is kept")
        if all(done for done, _ in states):
            return


def _worked_to_the_end(work: Iterator[None], stop: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _SLICE_SECONDS
    return not any(time.monotonic() > deadline or stop() for _ in work)
