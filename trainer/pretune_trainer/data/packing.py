"""From examples to rows: several to a row where the task packs, one to a row otherwise."""

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pretune_trainer.data.example import Layout

Lengths = NDArray[np.int32]
Rows = list[list[int]]
"""Indices of the examples in each row."""


def lay(lengths: Lengths, layout: Layout, random: np.random.Generator | None) -> Rows:
    """Rows for examples of these lengths, in shuffled order; without `random`, in the order of packing or of length."""
    rows = pack(lengths, layout.length) if layout.packs else [[int(each)] for each in _ascending(lengths)]
    if random is None:
        return rows
    return [rows[each] for each in random.permutation(len(rows)).tolist()]


def accompany(rows: Rows, random: np.random.Generator) -> Rows:
    """Rows of one example each, with another example behind it; the same one where there is no other."""
    count = len(rows)
    steps = random.integers(1, max(2, count), count).tolist()
    return [
        [*row, rows[(number + step) % count][0]] for number, (row, step) in enumerate(zip(rows, steps, strict=True))
    ]


def pack(lengths: Lengths, capacity: int) -> Rows:
    """Best-fit decreasing: each example, the longest first, goes where it leaves the least room.

    At most 11/9 of the rows that are needed, and one more (Johnson, 1974); on real text nearly none too many. Examples
    keep their order within a row.
    """
    rows: Rows = []
    free: list[tuple[int, int]] = []
    order = _ascending(lengths)[::-1]
    for index, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        place = bisect_left(free, (length, -1))
        if place == len(free):
            room, row = capacity, len(rows)
            rows.append([])
        else:
            room, row = free.pop(place)
        rows[row].append(index)
        if room > length:
            insort(free, (room - length, row))
    for row_ in rows:
        row_.sort()
    return rows


def _ascending(lengths: Sequence[int] | Lengths) -> NDArray[np.int64]:
    return np.argsort(lengths, kind="stable")
