"""The token cache: every document tokenised once, kept by content, read in place ever after."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from pretune_api.data import Data
from pretune_trainer.data.cache_index import INDEX_NAME, BatchEntry, Index, SourceEntry
from pretune_trainer.data.example import Example
from pretune_trainer.data.groups import Grouping
from pretune_trainer.data.order import tempered
from pretune_trainer.data.parts import Batch
from pretune_trainer.data.shelf import Shelf
from pretune_trainer.data.tokenise import Tokenisation, make, plan
from pretune_trainer.storage.commit import read_commit
from pretune_trainer.storage.store import Store

if TYPE_CHECKING:
    from pretune_trainer.parallel import Ranks

_MAPPED: Final = 4096
"""Batches kept mapped at once of a cache on this machine; Linux lets a process map 65,530."""
_LENT: Final = 256
"""Those of a remote one: what is mapped keeps its place on the disk, even when the copy has made room for another."""


class SourceExamples:
    """The examples of one source, on one side: lengths at hand, tokens at random."""

    def __init__(
        self, shelf: Shelf, lend: Callable[[str, BatchEntry], Batch], entry: SourceEntry, slices: tuple[str, ...] = ()
    ) -> None:
        """`lend` gives a batch of a file of the shelf, as `Shelf.lend` does."""
        self._entry = entry
        self.slices = slices
        """Slices that all of them belong to, where they are judged."""
        self._shelf, self._lend = shelf, lend
        self._batches = [(part.name, batch) for part in entry.parts for batch in part.batches]
        self._starts = [0, *np.cumsum([batch.examples for _, batch in self._batches]).tolist()]

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def tokens(self) -> int:
        """Tokens of all examples."""
        return self._entry.tokens

    @cached_property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each example, int32 [examples], mapped from the cache."""
        lengths: NDArray[np.int32] = np.load(self._shelf.path(self._entry.lengths), mmap_mode="r")
        return lengths

    @property
    def is_local(self) -> bool:
        """Whether the cache lies in this machine's file system: nothing has to be fetched."""
        return self._shelf.is_local

    def lacking(self, indices: Sequence[int]) -> list[Callable[[], object]]:
        """What is to be called so that these examples are on this machine; each call fetches a batch."""
        numbers = {bisect_right(self._starts, index) - 1 for index in indices}
        return [partial(self._batch, number) for number in sorted(numbers) if self._shelf.lacks(*self._batches[number])]

    def example(self, index: int) -> Example:
        """An example; its arrays are read-only views of the cache."""
        number = bisect_right(self._starts, index) - 1
        return self._batch(number).example(index - self._starts[number])

    def _batch(self, number: int) -> Batch:
        return self._lend(*self._batches[number])


class TokenCache:
    """All examples of a job's data."""

    def __init__(self, store: Store, data: Data, grouping: Grouping) -> None:
        """Opens the committed cache of `data`, whose rows `grouping` keeps apart.

        Raises:
            MissingObjectError: it is not committed.
            DamagedError: it is not what was committed.
        """
        manifest = read_commit(store)
        shelf = Shelf(store, manifest)
        index = Index.from_json(shelf.path(INDEX_NAME).read_bytes())
        self.digest = manifest.digest
        self.documents, self.dropped, self.truncated = index.documents, index.dropped, index.truncated or {}
        self._lend = lru_cache(_MAPPED if shelf.is_local else _LENT)(partial(shelf.lend, open_=Batch))
        self.train = [SourceExamples(shelf, self._lend, entry) for entry in index.train]
        self.validation, self.test = (
            [SourceExamples(shelf, self._lend, entry, grouping.slices(entry.group)) for entry in entries]
            for entries in (index.validation, index.test)
        )
        self.weights = _weights(data, index.train)


def _weights(data: Data, entries: Sequence[SourceEntry]) -> list[float | None]:
    """How often each of them comes, in relation."""
    if data.mixture is None:
        return [data.train[entry.source].weight for entry in entries]
    kinds = [entry.source if data.mixture.column is None else entry.group for entry in entries]
    return [*tempered([entry.tokens for entry in entries], kinds, data.mixture.temperature)]


def token_cache(tokenisation: Tokenisation, storage: Store, ranks: "Ranks", stop: Callable[[], bool]) -> TokenCache:
    """The cache of what is tokenised, made by all ranks if it is not there yet. Collective.

    `storage` is the storage's root, `stop` says whether to leave early.

    Raises:
        UserError: a source is empty, missing or damaged, or a row cannot be learnt from.
        StorageError: a store refuses or cannot be reached.
        StopRequestedError: asked to stop; what is done is kept for the next time.
    """
    work = ranks.once(lambda: plan(tokenisation, storage))
    store = storage.child(f"cache/{work.digest}")
    if not work.committed:
        make(tokenisation, work, store, ranks, stop)
    return TokenCache(store, tokenisation.data, tokenisation.grouping)
