from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretune_trainer.data.example import Layout
from pretune_trainer.data.packing import accompany, lay, pack

LENGTHS = st.lists(st.integers(1, 64), max_size=120)


def filled(rows: Iterable[Iterable[int]], lengths: list[int]) -> list[int]:
    return [sum(lengths[index] for index in row) for row in rows]


@given(LENGTHS)
def test_packing_places_every_example_once_and_never_overfills_a_row(lengths: list[int]) -> None:
    rows = pack(np.array(lengths, np.int32), 64)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(0 < size <= 64 for size in filled(rows, lengths))


@given(LENGTHS, st.integers(0, 9))
def test_a_task_that_packs_has_the_rows_of_the_packing_shuffled_unless_it_is_judged(
    lengths: list[int], seed: int
) -> None:
    given, layout = np.array(lengths, np.int32), Layout(length=64, packs=True)
    rows = pack(given, 64)
    assert lay(given, layout, None) == rows
    assert sorted(lay(given, layout, np.random.default_rng(seed))) == sorted(rows)


@given(st.integers(1, 9), st.integers(0, 99))
def test_an_example_is_accompanied_by_another_one_where_there_is_one(count: int, seed: int) -> None:
    rows = accompany([[number] for number in range(count)], np.random.default_rng(seed))
    assert [first for first, _ in rows] == list(range(count))
    assert all(other in range(count) and (other != first or count == 1) for first, other in rows)


@given(LENGTHS)
def test_packing_needs_at_most_eleven_ninths_of_the_rows_that_must_be(lengths: list[int]) -> None:
    assert 9 * len(pack(np.array(lengths, np.int32), 64)) <= 11 * min_rows(lengths) + 9


def min_rows(lengths: list[int]) -> int:
    """A bound on any packing: by volume, and by how many are more than half a row."""
    return max(-(-sum(lengths) // 64), sum(length > 32 for length in lengths), fits_alone(lengths))


def fits_alone(lengths: list[int]) -> int:
    """The bound of Martello and Toth (1990): a large example shares its row with small ones alone."""
    bounds = [0]
    for small in range(33):
        large = [length for length in lengths if length > 64 - small]
        middle = [length for length in lengths if 32 < length <= 64 - small]
        rest = sum(length for length in lengths if small <= length <= 32)
        room = 64 * len(middle) - sum(middle)
        bounds.append(len(large) + len(middle) + max(0, -(-(rest - room) // 64)))
    return max(bounds)


def test_a_row_has_its_examples_in_the_order_of_the_window() -> None:
    rows = pack(np.array([3, 9, 5, 4], np.int32), 12)
    assert sorted(rows) == [[0, 1], [2, 3]]


def test_real_lengths_pack_nearly_without_gaps() -> None:
    lengths = np.minimum(np.random.default_rng(0).lognormal(5, 1, 4096).astype(np.int32) + 1, 1024)
    rows = pack(lengths, 1024)
    assert lengths.sum() / (len(rows) * 1024) > 0.995


@given(LENGTHS, st.integers(0, 100))
def test_unpacked_rows_hold_one_example_each_and_every_example_once(lengths: list[int], seed: int) -> None:
    rows = lay(np.array(lengths, np.int32), Layout(length=64, packs=False), np.random.default_rng(seed))
    assert sorted(index for (index,) in rows) == list(range(len(lengths)))


def test_which_unpacked_rows_come_together_does_not_depend_on_their_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 512, 4096).astype(np.int32)
    rows = lay(lengths, Layout(length=512, packs=False), np.random.default_rng(1))
    batches = lengths[[index for (index,) in rows]].reshape(-1, 32)
    assert batches.mean(1).std() == pytest.approx(lengths.std() / 32**0.5, rel=0.2)
