"""The examples of a source as a job learns them: some of them, or with more beside them."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pretune_trainer.data.example import Array, Example
from pretune_trainer.data.token_cache import SourceExamples


class Chosen(SourceExamples):
    """Some examples of a source, in the order of `indices`."""

    def __init__(self, source: SourceExamples, indices: NDArray[np.int64]) -> None:
        self._source, self._indices = source, indices
        self.slices = source.slices

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def tokens(self) -> int:
        """Tokens of these examples."""
        return int(self.lengths.sum())

    @cached_property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each example, int32 [examples]."""
        return self._source.lengths[self._indices]

    @property
    def is_local(self) -> bool:
        """Whether nothing has to be fetched."""
        return self._source.is_local

    def lacking(self, indices: Sequence[int]) -> list[Callable[[], object]]:
        """What is to be called so that these examples are on this machine."""
        return self._source.lacking(self._indices[indices].tolist())

    def example(self, index: int) -> Example:
        """An example."""
        return self._source.example(int(self._indices[index]))


class Extended(Chosen):
    """All examples of a source; each has a row of every table in `beside` as one array more."""

    def __init__(self, source: SourceExamples, beside: Mapping[str, Array]) -> None:
        super().__init__(source, np.arange(len(source)))
        self._beside = beside

    def example(self, index: int) -> Example:
        """An example, with what stands beside it."""
        return {**super().example(index), **{name: table[index] for name, table in self._beside.items()}}
