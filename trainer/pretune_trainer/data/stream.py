"""What each rank computes in each step: the order of examples, packed into rows and shared out."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np

from pretune_trainer.data.example import Cursor, Layout, Pack, StepPacks
from pretune_trainer.data.order import WINDOW, Order, SourceSize, Window
from pretune_trainer.data.packing import Lengths, Rows, accompany, lay
from pretune_trainer.data.token_cache import SourceExamples, TokenCache

Key = tuple[int, int, int]
"""Names a pack, as `Pack.key` does."""

_ROWS: Final = 3
"""Keeps the randomness of rows apart from that of the order."""
_FETCHERS: Final = 8
"""Batches fetched at once: a store's answer takes its time."""
_COUNTED: Final = 256
"""Windows of an epoch whose rows are counted; of more, so many are, and the rest is taken to be like them."""


@dataclass(frozen=True)
class _Plan:
    """A window, laid into rows."""

    window: Window
    lengths: Lengths
    rows: Rows

    def tokens(self, row: int) -> int:
        """Tokens in a row."""
        return int(self.lengths[self.rows[row]].sum())


class Stream:
    """The training packs of one rank: endless, and the same in every step at any number of ranks."""

    def __init__(
        self, cache: TokenCache, layout: Layout, seed: int, rows_per_step: int, rank: int = 0, size: int = 1
    ) -> None:
        self._sources = cache.train
        self._layout = layout
        self._seed = seed
        self._rows = rows_per_step
        self._rank, self._size = rank, size
        self._is_remote = not all(source.is_local for source in cache.train)
        sizes = [
            SourceSize(len(source), source.tokens, weight)
            for source, weight in zip(cache.train, cache.weights, strict=True)
        ]
        self._order = Order(sizes, seed)
        self._plan = lru_cache(maxsize=1)(self._planned)

    def steps(self, start: Cursor) -> Iterator[StepPacks]:
        """The steps from a place on; a step may span windows."""
        while True:
            places, start = self._places(start)
            mine = places[self._rank :: self._size]
            if self._is_remote:
                _bring(self._sources, mine)
            packs = [_pack(self._sources, plan, at.row, (at.epoch, at.window, at.row)) for plan, at in mine]
            packs += [Pack()] * (-(-self._rows // self._size) - len(packs))
            yield StepPacks(packs, start)

    def rows_per_epoch(self) -> int:
        """Rows of the first epoch, from lengths alone; epochs differ by a few. Estimated beyond a million examples."""
        counted = min(self._order.windows, _COUNTED)
        numbers = [each * self._order.windows // counted for each in range(counted)]
        rows = sum(len(self._planned(0, number).rows) for number in numbers)
        return round(rows * self._order.windows / counted)

    def _places(self, start: Cursor) -> tuple[list[tuple[_Plan, Cursor]], Cursor]:
        """The places of a step's rows, with the plans that they are in, and the place after them.

        The longest row comes first: micro-batches then hold rows of similar length, with little padding. Which rows
        share a step is left to chance: steps of one length each would pull the weights from length to length.
        """
        places: list[tuple[_Plan, Cursor]] = []
        while len(places) < self._rows:
            plan = self._plan(start.epoch, start.window)
            until = min(len(plan.rows), start.row + self._rows - len(places))
            places += [(plan, Cursor(start.epoch, start.window, row)) for row in range(start.row, until)]
            start = self._at(start.epoch, start.window, until)
        places.sort(key=lambda place: place[0].tokens(place[1].row), reverse=True)
        return places, start

    def _at(self, epoch: int, window: int, row: int) -> Cursor:
        """That place, or the beginning of the next window where this one ends there."""
        if row < len(self._plan(epoch, window).rows):
            return Cursor(epoch, window, row)
        return Cursor(epoch, window + 1) if window + 1 < self._order.windows else Cursor(epoch + 1)

    def _planned(self, epoch: int, number: int) -> _Plan:
        window = self._order.window(epoch, number)
        random = np.random.default_rng((self._seed, _ROWS, epoch, number))
        lengths = _lengths(self._sources, window)
        rows = lay(lengths, self._layout, random)
        return _Plan(window, lengths, accompany(rows, random) if self._layout.accompanied else rows)


def held_out(
    judged: Sequence[SourceExamples], layout: Layout, rank: int = 0, size: int = 1, most: int | None = None
) -> Iterator[Pack]:
    """This rank's packs of the examples of `judged`, validation or test, in a fixed order; every rank has as many.

    All ranks together have every example once; or `most` rows at most, spread over all of them. Examples of different
    slices are in different packs, and every rank has as many packs of each.
    """
    by_slices: dict[tuple[str, ...], list[SourceExamples]] = {}
    for source in judged:
        by_slices.setdefault(source.slices, []).append(source)
    total, before = sum(map(len, judged)), 0
    for slices, sources in by_slices.items():
        after = before + sum(map(len, sources))
        share = None if most is None else most * after // total - most * before // total
        dealt = 0
        for plan, row, key in _placed(sources, layout, before, share):
            if dealt % size == rank:
                yield replace(_pack(sources, plan, row, key), held_out=True, slices=slices)
            dealt += 1
        if 0 < dealt % size <= rank:
            yield Pack(slices=slices)
        before = after


def _placed(
    sources: Sequence[SourceExamples], layout: Layout, number: int, most: int | None
) -> Iterator[tuple[_Plan, int, Key]]:
    """Where the packs of these sources are, and their keys; `number` is that of their first example."""
    total, spare = sum(map(len, sources)), 0
    starts = range(0, total, WINDOW)
    for window, start in enumerate(starts):
        plan = _in_order(sources, layout, start)
        rows: Sequence[int] = range(len(plan.rows))
        if most is not None and most < total:
            share = most * (window + 1) // len(starts) - most * window // len(starts)
            if layout.together is None:
                rows = _spread(len(plan.rows), share)
            else:
                rows = _whole(sources, plan, share + spare, layout.together)
                spare += share - len(rows)
        for row in rows:
            yield plan, row, (0, number + start, row)


def _spread(count: int, most: int) -> Sequence[int]:
    """Numbers below `count`: all, or `most` of them at equal distances."""
    if most >= count:
        return range(count)
    return [each * count // most for each in range(most)]


def _whole(sources: Sequence[SourceExamples], plan: _Plan, most: int, name: str) -> list[int]:
    """At most so many rows, of single examples: chosen at random, with every one all that share its `name`."""
    row_of = {place: row for row, (place,) in enumerate(plan.rows)}
    found: list[int] = []
    for place in np.random.default_rng(most).permutation(len(plan.rows)).tolist():
        group = _group(sources, plan.window, place, name)
        if place in group[:1]:  # each as likely, however many examples it has
            if len(found) + len(group) > most:
                break
            found += [row_of[each] for each in group]
    return sorted(found)


def _group(sources: Sequence[SourceExamples], window: Window, place: int, name: str) -> range:
    """The places of an example and of its neighbours with the same `name`; none where they go on beyond the window."""
    source, index = sources[window.sources[place]], int(window.indices[place])
    mine = source.example(index)[name]

    def is_ours(other: int) -> bool:
        return 0 <= other < len(source) and np.array_equal(source.example(other)[name], mine)

    first, last = index, index
    while is_ours(first - 1):
        first -= 1
    while is_ours(last + 1):
        last += 1
    places = range(place - index + first, place - index + last + 1)
    return places if places.start >= 0 and places.stop <= len(window.indices) else range(0)


def _in_order(sources: Sequence[SourceExamples], layout: Layout, start: int) -> _Plan:
    """The window of the examples from `start` on, source by source."""
    starts = np.cumsum([0, *map(len, sources)])
    places = np.arange(start, min(start + WINDOW, starts[-1]))
    numbers = np.searchsorted(starts, places, side="right") - 1
    window = Window(numbers, places - starts[numbers])
    lengths = _lengths(sources, window)
    rows = lay(lengths, layout, None)
    return _Plan(window, lengths, accompany(rows, np.random.default_rng(start)) if layout.accompanied else rows)


def _lengths(sources: Sequence[SourceExamples], window: Window) -> Lengths:
    lengths = np.zeros(len(window.indices), np.int32)
    for number, source in enumerate(sources):
        chosen = window.sources == number
        lengths[chosen] = source.lengths[window.indices[chosen]]
    return lengths


def _bring(sources: Sequence[SourceExamples], places: Iterable[tuple[_Plan, Cursor]]) -> None:
    """Fetch what the rows at these places consist of, several batches at once, where it is not on this machine yet."""
    wanted: dict[int, list[int]] = {}
    for plan, at in places:
        for place in plan.rows[at.row]:
            wanted.setdefault(int(plan.window.sources[place]), []).append(int(plan.window.indices[place]))
    lacking = [fetch for source, indices in wanted.items() for fetch in sources[source].lacking(indices)]
    if len(lacking) > 1:
        with ThreadPoolExecutor(min(len(lacking), _FETCHERS)) as pool:
            deque(pool.map(lambda fetch: fetch(), lacking), maxlen=0)


def _pack(sources: Sequence[SourceExamples], plan: _Plan, row: int, key: Key) -> Pack:
    chosen = plan.rows[row]
    places = zip(plan.window.sources[chosen].tolist(), plan.window.indices[chosen].tolist(), strict=True)
    return Pack(tuple(sources[source].example(index) for source, index in places), key)
