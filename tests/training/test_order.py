from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretune_trainer.data import order as order_module
from pretune_trainer.data.order import Order, SourceSize

SIZES = st.lists(st.integers(0, 60), min_size=1, max_size=5).filter(any)


def order_of(
    sizes: list[int], seed: int = 0, window: int = 16, weights: list[float] | None = None, length: int = 10
) -> Order:
    shares: Sequence[float | None] = weights or [None] * len(sizes)
    return Order([SourceSize(n, n * length, w) for n, w in zip(sizes, shares, strict=True)], seed, window)


def examples(order: Order, epoch: int, windows: Iterable[int] | None = None) -> list[tuple[int, int]]:
    """(source, index) in the order of an epoch."""
    found = [order.window(epoch, window) for window in (windows or range(order.windows))]
    return [pair for w in found for pair in zip(w.sources.tolist(), w.indices.tolist(), strict=True)]


@given(SIZES, st.integers(0, 2**32 - 1), st.integers(1, 50), st.integers(0, 5))
def test_without_weights_every_example_comes_exactly_once_in_every_epoch(
    sizes: list[int], seed: int, window: int, epoch: int
) -> None:
    seen = Counter(examples(order_of(sizes, seed, window), epoch))
    assert seen == Counter((source, index) for source, size in enumerate(sizes) for index in range(size))


@given(st.integers(1, 300), st.integers(1, 20), st.integers(0, 3))
@settings(max_examples=60)
def test_large_sources_are_permuted_by_blocks_and_still_come_exactly_once(size: int, blocks: int, epoch: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order_module, "_BLOCKS", blocks)
        seen = Counter(index for _, index in examples(order_of([size]), epoch))
    assert seen == Counter(range(size))


def test_blocks_keep_neighbours_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_module, "_BLOCKS", 10)
    first = sorted(index for _, index in examples(order_of([1000], window=100), 0, [0]))
    assert first == list(range(first[0], first[0] + 100))


@given(SIZES, st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_a_window_does_not_depend_on_those_read_before_it(sizes: list[int], seed: int, random: Random) -> None:
    places = [(epoch, window) for epoch in range(3) for window in range(order_of(sizes).windows)]
    expected = {place: examples(order_of(sizes, seed), place[0], [place[1]]) for place in places}
    random.shuffle(places)
    order = order_of(sizes, seed)
    assert all(examples(order, epoch, [window]) == expected[epoch, window] for epoch, window in places)


def test_sources_are_interleaved_evenly_within_an_epoch() -> None:
    order = order_of([3000, 1000], window=400)
    shares = [np.mean(order.window(0, window).sources == 1) for window in range(order.windows)]
    assert shares == pytest.approx([0.25] * 10, abs=0.01)


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 50), st.floats(0.1, 10)), min_size=2, max_size=4),
    st.integers(0, 100),
)
@settings(max_examples=25)
def test_weights_are_shares_of_the_tokens(sources: list[tuple[int, int, float]], seed: int) -> None:
    order = Order([SourceSize(n, n * length, weight) for n, length, weight in sources], seed, window=64)
    tokens = np.zeros(len(sources))
    for place in range(100):
        window = order.window(*divmod(place, order.windows))
        tokens += np.bincount(window.sources, minlength=len(sources)) * [length for _, length, _ in sources]
    weights = np.array([weight for *_, weight in sources])
    lengths = np.array([length for _, length, _ in sources])
    assert tokens / tokens.sum() == pytest.approx(weights / weights.sum(), abs=2 * lengths.max() / tokens.sum() + 1e-6)


@given(SIZES.filter(lambda sizes: len(sizes) > 1 and all(sizes)), st.integers(0, 100))
@settings(max_examples=30)
def test_a_weighted_source_gives_every_example_once_before_it_repeats_one(sizes: list[int], seed: int) -> None:
    order = order_of(sizes, seed, weights=[1.0] * len(sizes))
    stream = [pair for epoch in range(4) for pair in examples(order, epoch)]
    counts = Counter(stream)
    for source in range(len(sizes)):
        seen = [counts[source, index] for index in range(sizes[source])]
        assert max(seen) - min(seen) <= 1


def test_epochs_and_seeds_differ() -> None:
    orders = [examples(order_of([200], seed), epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(each) for each in orders}) == 4


def test_an_epoch_of_weighted_sources_has_as_many_tokens_as_the_sources() -> None:
    order = Order([SourceSize(1000, 50_000, 3.0), SourceSize(500, 5_000, 1.0)], 0)
    tokens = sum((50, 10)[source] for source, _ in examples(order, 0))
    assert tokens == pytest.approx(55_000, rel=0.01)
