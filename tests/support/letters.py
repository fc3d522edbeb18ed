"""A task without a tokenizer, sources written on the spot, and ranks that are threads."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pretune_api.data import Data
from pretune_api.storage import Location
from pretune_trainer.data.example import Example, Layout, Row
from pretune_trainer.data.token_cache import SourceExamples, TokenCache, token_cache
from pretune_trainer.data.tokenise import Tokenisation, Tokenises
from pretune_trainer.parallel import Ranks
from pretune_trainer.storage.store import Store

T = TypeVar("T")


@dataclass
class Letters:
    """Every byte is a token; long texts are cut into pieces."""

    layout: Layout = field(default_factory=lambda: Layout(length=16, packs=True))
    fingerprint: str = "letters/1"
    nothing_learnt: str = "they are null, blank or too short"
    columns: Sequence[str] = ()
    seen: int = 0

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        for row in rows:
            self.seen += 1
            ids = np.frombuffer(row.text().encode(), np.uint8).astype(np.int32)
            step = self.layout.length
            yield [{"ids": ids[at : at + step]} for at in range(0, len(ids), step)]


@dataclass(frozen=True)
class ThreadRanks(Ranks):
    """Ranks that are threads of this process."""

    meeting: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))
    places: list[Any] = field(default_factory=list)

    def gather(self, value: T) -> list[T]:
        self.places[self.rank] = value
        self.meeting.wait(120)
        values = list(self.places)
        self.meeting.wait(120)
        return values

    def share(self, value: T) -> T:
        return self.gather(value)[0]


def on_ranks(size: int, work: Callable[[Ranks], T]) -> list[T]:
    """What `work(ranks)` returns on each of `size` ranks."""
    results, errors = _tried_on_ranks(size, work)
    assert len(results) == size, errors
    return results


def errors_on_ranks(size: int, work: Callable[[Ranks], object]) -> list[Exception]:
    """What `work(ranks)` raises on each of `size` ranks."""
    _, errors = _tried_on_ranks(size, work)
    assert len(errors) == size
    return errors


def _tried_on_ranks(size: int, work: Callable[[Ranks], T]) -> tuple[list[T], list[Exception]]:
    meeting, places = threading.Barrier(size), [None] * size
    results: dict[int, T] = {}
    errors: dict[int, Exception] = {}

    def run(rank: int) -> None:
        try:
            results[rank] = work(ThreadRanks(rank=rank, size=size, meeting=meeting, places=places))
        except Exception as error:
            errors[rank] = error

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    return [results[rank] for rank in sorted(results)], [errors[rank] for rank in sorted(errors)]


def write_jsonl(path: Path, texts: Iterable[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def data_of(*uris: str | Path | Mapping[str, object], **fields: Any) -> Data:
    """Training data from files or folders, or from sources given as fields."""
    train = [uri if isinstance(uri, Mapping) else {"uri": f"file://{uri}"} for uri in uris]
    return Data.model_validate({"train": train, "sequenceLength": 16, **fields})


def store_at(folder: Path) -> Store:
    return Store.open(Location(uri=f"file://{folder}"))


def make_cache(
    folder: Path,
    data: Data,
    task: Tokenises | None = None,
    ranks: Ranks | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> TokenCache:
    tokenisation = Tokenisation(data, task or Letters(), "tokenizer")
    return token_cache(tokenisation, store_at(folder / "store"), ranks or Ranks(), stop)


def text_of(example: Example) -> str:
    return bytes(example["ids"].astype(np.uint8)).decode()


def texts_of(sources: Sequence[SourceExamples]) -> list[str]:
    return [text_of(source.example(index)) for source in sources for index in range(len(source))]
