"""The endless order of a job's examples: pure functions of (seed, epoch, window), whatever the ranks.

Each source is read in passes; a pass is a permutation of blocks, runs of neighbours, so that reading stays local in
large sources. A window takes the next examples of every source, by quota, and shuffles them. So a window can be
computed without those before it, and a place in the order is three integers.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

WINDOW: Final = 4096
"""Examples in a window, about: enough to pack tightly, few enough to plan in a blink."""
_BLOCKS: Final = 2**20
"""Blocks that a source has at most: a permutation of them takes 8 MiB. Smaller sources are permuted one by one."""
_SHARES: Final = 2**40
"""Shares of weighted sources are multiples of one over this: quotas must be exact at any distance."""
_PASSES, _WINDOWS = 1, 2
"""Keep the randomness of passes and windows apart."""


@dataclass(frozen=True)
class SourceSize:
    """What the order needs to know of a source."""

    examples: int
    """Number of its examples."""
    tokens: int
    """Tokens in them."""
    weight: float | None = None
    """Share of the tokens, relative to the other weights."""


@dataclass(frozen=True)
class Window:
    """Examples that are packed together, in their order: two arrays int64 [examples]."""

    sources: Indices
    """Source of each."""
    indices: Indices
    """Index of each in its source."""


class Order:
    """Which examples each window of each epoch holds.

    Without weights an epoch has every example of every source exactly once. With weights (a source without one counts
    as 1) a source's share is one of tokens, sources are repeated or used in part, and an epoch has as many tokens as
    the sources.
    """

    def __init__(self, sources: Sequence[SourceSize], seed: int, window: int = WINDOW) -> None:
        self._sources = sources
        self._seed = seed
        self._shares = _shares(sources)
        self._total = sum(self._shares)
        self._epoch = self._examples_of_epoch()
        self.windows = max(1, round(self._epoch / window))
        self._pass = lru_cache(maxsize=2 * len(sources))(self._permuted)

    def window(self, epoch: int, window: int) -> Window:
        """The examples of a window, shuffled."""
        start, stop = (epoch * self._epoch + self._epoch * edge // self.windows for edge in (window, window + 1))
        quotas = [(start * share // self._total, stop * share // self._total) for share in self._shares]
        sources = np.repeat(np.arange(len(quotas)), [until - since for since, until in quotas])
        indices = np.concatenate([self._positions(number, *quota) for number, quota in enumerate(quotas)])
        order = np.random.default_rng((self._seed, _WINDOWS, epoch, window)).permutation(len(indices))
        return Window(sources[order], indices[order])

    def _examples_of_epoch(self) -> int:
        tokens = sum(source.tokens for source in self._sources)
        lengths = [source.tokens / max(1, source.examples) for source in self._sources]
        mean = sum(share * length for share, length in zip(self._shares, lengths, strict=True)) / self._total
        if all(source.weight is None for source in self._sources):
            return self._total
        return max(1, round(tokens / mean))

    def _positions(self, source: int, start: int, stop: int) -> Indices:
        """Examples from `start` to `stop` of the endless stream of a source."""
        size = self._sources[source].examples
        found: list[Indices] = [np.zeros(0, np.int64)]
        while start < stop:
            number, offset = divmod(start, size)
            count = min(stop - start, size - offset)
            found.append(_blocks(self._pass(source, number), size, offset, count))
            start += count
        return np.concatenate(found)

    def _permuted(self, source: int, number: int) -> Indices:
        """The blocks of a source in the order of a pass."""
        blocks = -(-self._sources[source].examples // _block(self._sources[source].examples))
        return np.random.default_rng((self._seed, _PASSES, source, number)).permutation(blocks)


def tempered(tokens: Sequence[int], kinds: Sequence[Hashable], temperature: float) -> list[float]:
    """Weights of sources, from their tokens: a kind of n tokens weighs n^(1/temperature), shared out among its sources.

    Conneau and Lample, 2019, equation 1 (alpha is 1/temperature); Xue et al., 2021.
    """
    sizes: Counter[Hashable] = Counter()
    for kind, size in zip(kinds, tokens, strict=True):
        sizes[kind] += size
    return [size * max(1, sizes[kind]) ** (1 / temperature - 1) for kind, size in zip(kinds, tokens, strict=True)]


def _shares(sources: Sequence[SourceSize]) -> list[int]:
    """Examples of each source, in relation: integers, so that quotas are exact."""
    if all(source.weight is None for source in sources):
        return [source.examples for source in sources]
    rates = [(source.weight or 1.0) * source.examples / max(1, source.tokens) for source in sources]
    return [round(rate / sum(rates) * _SHARES) for rate in rates]


def _block(examples: int) -> int:
    return -(-examples // _BLOCKS)


def _blocks(permutation: Indices, size: int, offset: int, count: int) -> Indices:
    """Examples `offset` to `offset + count` of a pass; the source's last block may be shorter than the others."""
    block = _block(size)
    if block == 1:
        return permutation[offset : offset + count]
    missing = len(permutation) * block - size
    short = int(np.flatnonzero(permutation == len(permutation) - 1)[0])
    place = np.arange(offset, offset + count)
    place = np.where(place >= (short + 1) * block - missing, place + missing, place)
    return permutation[place // block] * block + place % block
