"""How far down a list of the most similar ones the right one stands, in the pool that the validation data is."""

from collections.abc import Hashable, Iterator, Sequence
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from pretune_trainer.metrics.base import Metric, Outcome

Vectors = NDArray[np.float32]
Numbers = NDArray[np.int64]

BEST: Final = (1, 5, 10)
"""How far down a list the right one may stand."""
CHUNK: Final = 1024
"""Rows of the pool compared with all others at once."""


class CollectingMetric(Metric[Outcome]):
    """What is measured on all outcomes of all ranks together, which are held in memory."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def update(self, outcomes: Sequence[Outcome]) -> None:
        """Add the outcomes to the pool."""
        self.outcomes.extend(outcomes)

    def merge(self, other: Self) -> None:
        """Add the other's outcomes to the pool."""
        self.outcomes.extend(other.outcomes)


def distinct(names: Sequence[Hashable]) -> tuple[Numbers, Numbers]:
    """Where each name stands first, and the number of each name among the distinct ones: int64 [distinct], [n]."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    of_name = np.array([numbers[name] for name in names])
    return np.unique(of_name, return_index=True)[1], of_name


def compared(
    queries: Vectors, pool: Vectors, of_query: Numbers, of_pool: Numbers
) -> Iterator[tuple[Vectors, NDArray[np.bool_]]]:
    """Similarities of the next queries with the whole pool, and which of them are right: [rows, pool] each; pairs are
    (of_query[i], of_pool[i])."""
    for start in range(0, len(queries), CHUNK):
        scores = queries[start : start + CHUNK] @ pool.T
        right = np.zeros(scores.shape, bool)
        here = (of_query >= start) & (of_query < start + len(scores))
        right[of_query[here] - start, of_pool[here]] = True
        yield scores, right


def wrong_ahead(scores: Vectors, right: NDArray[np.bool_]) -> Numbers:
    """How many wrong answers stand before each query's best right one [rows], by similarities with the pool
    [rows, pool]. Whatever is not worse counts as before it, so that a model for which all is alike, or not a number,
    finds nothing."""
    best = np.where(right, scores, -np.inf).max(1, keepdims=True)
    return np.asarray((~(scores < best) & ~right).sum(1))
