import hashlib
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretune_trainer.data import order as order_module
from pretune_trainer.data import stream as stream_module
from pretune_trainer.data.example import Array, Cursor, Example, Layout, Pack
from pretune_trainer.data.packing import lay
from pretune_trainer.data.stream import Stream, held_out

PACKED, SINGLE = Layout(length=64, packs=True), Layout(length=64, packs=False)
BEGIN = Cursor()
LAYOUTS = st.sampled_from([PACKED, SINGLE])


class Numbered:
    """Examples that carry their source and index, and count how often they are touched."""

    is_local = True

    def __init__(self, source: int, lengths: Array, slices: tuple[str, ...] = ()) -> None:
        self.source, self.slices = source, slices
        self.touched: Counter[int] = Counter()
        self.lengths = np.array(lengths, np.int32)
        self.tokens = int(self.lengths.sum())
        self.groups = np.arange(len(lengths))

    def __len__(self) -> int:
        return len(self.lengths)

    def example(self, index: int) -> Example:
        self.touched[index] += 1
        name = np.array([self.source, index])
        return {"ids": np.zeros(self.lengths[index], np.int32), "name": name, "group": self.groups[[index]]}


def cache_of(sizes: list[int], seed: int = 0, weights: list[float] | None = None) -> Any:
    """What of a token cache is looked at."""
    random = np.random.default_rng(seed)
    sources = [Numbered(number, random.integers(1, 65, size)) for number, size in enumerate(sizes)]
    return SimpleNamespace(train=sources, validation=sources, weights=weights or [None] * len(sizes))


Names = tuple[tuple[int, int, int], list[tuple[int, ...]]]
"""A pack's key, and source and index of its examples."""


def names(pack: Pack) -> Names:
    return (pack.key, [tuple(example["name"].tolist()) for example in pack.examples])


def steps(
    cache: Any, layout: Layout, rows: int, ranks: int = 1, start: Cursor = BEGIN, count: int = 12
) -> Iterator[tuple[list[Names], Cursor, set[Cursor]]]:
    """The packs of each step, put together from all ranks as they were dealt, and the cursors after them."""
    streams = [Stream(cache, layout, 3, rows, rank, ranks).steps(start) for rank in range(ranks)]
    for parts in islice(zip(*streams, strict=True), count):
        assert len({len(part.packs) for part in parts}) == 1
        dealt = [names(pack) for group in zip(*(part.packs for part in parts), strict=True) for pack in group]
        yield [pack for pack in dealt if pack[1]], parts[0].after, {part.after for part in parts}


SIZES = st.lists(st.integers(1, 80), min_size=1, max_size=3)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 20 examples, so that steps span several."""
    monkeypatch.setattr(stream_module, "WINDOW", 20)
    monkeypatch.setattr(order_module.Order.__init__, "__defaults__", (20,))


@pytest.mark.parametrize(("layout", "expected"), [(PACKED, "28f62d151cd622d0"), (SINGLE, "d8616b7107c989b1")])
def test_a_run_that_goes_on_after_an_upgrade_reads_what_it_would_have_read(layout: Layout, expected: str) -> None:
    read = [pack for packs, _, _ in steps(cache_of([50, 30], weights=[1.0, 2.0]), layout, 9) for pack in packs]
    assert hashlib.sha256(repr(read).encode()).hexdigest()[:16] == expected


@given(SIZES, LAYOUTS, st.integers(1, 11), st.integers(2, 5))
@settings(max_examples=40)
def test_a_step_has_the_same_packs_at_any_number_of_ranks(
    sizes: list[int], layout: Layout, rows: int, ranks: int
) -> None:
    cache = cache_of(sizes)
    alone, shared = list(steps(cache, layout, rows)), list(steps(cache, layout, rows, ranks))
    assert shared == alone
    assert all(len(packs) == rows and len(cursors) == 1 for packs, _, cursors in shared)


@given(SIZES, LAYOUTS, st.integers(1, 11), st.integers(1, 3), st.integers(1, 11))
@settings(max_examples=40)
def test_resuming_at_any_step_on_other_ranks_goes_on_exactly(
    sizes: list[int], layout: Layout, rows: int, ranks: int, step: int
) -> None:
    cache = cache_of(sizes)
    undisturbed = list(steps(cache, layout, rows))
    after = undisturbed[step - 1][1]
    assert list(steps(cache, layout, rows, ranks, after, 12 - step)) == undisturbed[step:]


@given(SIZES, LAYOUTS, st.integers(1, 11))
@settings(max_examples=40)
def test_rows_per_epoch_are_those_until_the_second_epoch_begins(sizes: list[int], layout: Layout, rows: int) -> None:
    cache = cache_of(sizes)
    expected = Stream(cache, layout, 3, rows).rows_per_epoch()
    packs = [pack for found, _, _ in steps(cache, layout, rows, count=expected // rows + 2) for pack in found]
    assert sum(key[0] == 0 for key, _ in packs) == expected
    seen = Counter(name for key, examples in packs if key[0] == 0 for name in examples)
    assert seen == Counter((source, index) for source, size in enumerate(sizes) for index in range(size))


def test_keys_name_each_pack_once() -> None:
    keys = [key for packs, _, _ in steps(cache_of([70, 30]), PACKED, 7) for key, _ in packs]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_rows_of_a_step_come_by_length_though_chance_brings_them_together(rank: int) -> None:
    lengths = [
        list(map(len, step.packs)) for step in islice(Stream(cache_of([900]), SINGLE, 0, 16, rank, 2).steps(BEGIN), 40)
    ]
    assert all(step == sorted(step, reverse=True) for step in lengths)
    assert np.mean([step[0] - step[-1] for step in lengths]) > 40


def test_only_the_tokens_of_this_ranks_rows_are_touched() -> None:
    cache = cache_of([50])
    packs = next(Stream(cache, PACKED, 0, 8, rank=1, size=2).steps(Cursor())).packs
    assert sum(cache.train[0].touched.values()) == sum(len(pack.examples) for pack in packs)


def test_rows_of_long_epochs_are_estimated_from_a_part_of_the_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(cache_of([4000]), PACKED, 0, 8)
    exact = stream.rows_per_epoch()
    monkeypatch.setattr(stream_module, "_COUNTED", 100)
    assert stream.rows_per_epoch() == pytest.approx(exact, rel=0.02)


@given(SIZES, LAYOUTS, st.integers(1, 5))
@settings(max_examples=40)
def test_validation_gives_every_example_once_and_every_rank_as_many_packs(
    sizes: list[int], layout: Layout, ranks: int
) -> None:
    cache = cache_of(sizes)
    parts = [[names(pack) for pack in held_out(cache.validation, layout, rank, ranks)] for rank in range(ranks)]
    assert len({len(part) for part in parts}) == 1
    seen = Counter(name for part in parts for _, examples in part for name in examples)
    assert seen == Counter((source, index) for source, size in enumerate(sizes) for index in range(size))


@given(SIZES, LAYOUTS, st.integers(1, 4), st.integers(1, 40) | st.none())
@settings(max_examples=40)
def test_packs_of_the_validation_are_of_one_slice_and_every_rank_has_as_many_of_each(
    sizes: list[int], layout: Layout, ranks: int, most: int | None
) -> None:
    cache = cache_of(sizes)
    for number, source in enumerate(cache.validation):
        source.slices = (f"parity={number % 2}",)
    parts = [list(held_out(cache.validation, layout, rank, ranks, most)) for rank in range(ranks)]
    assert len({tuple(pack.slices for pack in part) for part in parts}) == 1
    packs = [pack for part in parts for pack in part if pack.examples]
    assert {(pack.slices, f"parity={example['name'][0] % 2}") for pack in packs for example in pack.examples} <= {
        (("parity=0",), "parity=0"),
        (("parity=1",), "parity=1"),
    }
    assert len({pack.key for pack in packs}) == len(packs) <= (most or len(packs))


@given(SIZES, st.lists(st.integers(1, 5), min_size=1, max_size=9), st.integers(1, 60))
@settings(max_examples=40)
def test_of_what_makes_sense_together_all_is_judged_or_nothing(sizes: list[int], groups: list[int], most: int) -> None:
    cache, layout = cache_of(sizes), Layout(length=64, packs=False, together="group")
    for source in cache.validation:
        ends = np.cumsum(np.resize(groups, len(source)))
        source.groups = np.searchsorted(ends, np.arange(len(source)), side="right")
    packs = [pack for pack in held_out(cache.validation, layout, most=most) if pack.examples]
    judged = {tuple(example["name"].tolist()) for pack in packs for example in pack.examples}
    for number, index in judged:
        groups_of = cache.validation[number].groups
        assert {(number, other) for other in np.flatnonzero(groups_of == groups_of[index]).tolist()} <= judged
    assert len(packs) == len(judged) <= most


def test_much_of_what_may_be_judged_is_judged_though_it_must_be_whole() -> None:
    cache, layout = cache_of([1000]), Layout(length=64, packs=False, together="group")
    cache.validation[0].groups = np.arange(1000) // 3
    assert 97 <= len(list(held_out(cache.validation, layout, most=100))) <= 100


def test_a_rank_reads_no_more_of_the_validation_than_it_judges() -> None:
    cache = cache_of([50, 20])
    mine = list(held_out(cache.validation, PACKED, 1, 4))
    assert sum(source.touched.total() for source in cache.validation) == sum(len(pack.examples) for pack in mine)


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_part_of_the_validation_has_the_share_of_every_slice(ranks: int) -> None:
    cache = cache_of([60, 20, 40])
    for number, source in enumerate(cache.validation):
        source.slices = (f"source={number}",)
    packs = [
        pack
        for rank in range(ranks)
        for pack in held_out(cache.validation, SINGLE, rank, ranks, most=24)
        if pack.examples
    ]
    assert Counter(pack.slices for pack in packs) == {("source=0",): 12, ("source=1",): 4, ("source=2",): 8}


def test_where_a_task_asks_for_it_each_example_comes_with_another_one_to_learn_from_and_to_judge_by() -> None:
    cache, layout = cache_of([30]), Layout(length=64, packs=False, accompanied=True)
    learnt = [pair for packs, _, _ in steps(cache, layout, 10, count=3) for _, pair in packs]
    judged = [names(pack)[1] for pack in held_out(cache.validation, layout)]
    for pairs in (learnt, judged):
        assert sorted(first for first, _ in pairs) == [(0, index) for index in range(30)]
        assert all(first != other for first, other in pairs)


@pytest.mark.parametrize("layout", [PACKED, Layout(length=64, packs=False, together="group")])
def test_what_is_judged_is_told_from_what_is_learnt(layout: Layout) -> None:
    cache = cache_of([30])
    assert all(pack.held_out for pack in held_out(cache.validation, layout, most=10))
    assert not any(pack.held_out for pack in next(Stream(cache, layout, 3, 4).steps(BEGIN)).packs)


def test_as_much_is_judged_as_may_be_however_it_is_divided_into_slices() -> None:
    cache = cache_of([20, 20, 20])
    for number, source in enumerate(cache.validation):
        source.slices = (f"source={number}",)
    assert len(list(held_out(cache.validation, SINGLE, most=10))) == 10


def test_validation_comes_in_the_same_order_each_time() -> None:
    cache = cache_of([50, 20])
    first, second = ([names(pack) for pack in held_out(cache.validation, SINGLE)] for _ in range(2))
    assert first == second


def test_a_window_is_planned_once_even_where_a_step_spans_many(monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[int] = []

    def counted(*arguments: Any) -> list[list[int]]:
        planned.append(0)
        return lay(*arguments)

    monkeypatch.setattr(stream_module, "lay", counted)
    windows = {key[:2] for packs, _, _ in steps(cache_of([300]), PACKED, 70, count=3) for key, _ in packs}
    assert len(windows) > 12
    assert len(planned) == len(windows)
