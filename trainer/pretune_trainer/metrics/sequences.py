"""What two sequences have in common, and what not.

A column of the usual table, of as many places as the one sequence has, is kept as whole numbers with a bit for each
place: a step of the algorithm is a few operations on them, not a loop.
"""

from collections.abc import Hashable, Sequence


def longest_common(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Length of the longest sequence of items that both hold in this order.

    A bit says of each place that the length does not grow there (Hyyrö, 2004).
    """
    places = _places(other)
    all_ = level = (1 << len(other)) - 1
    for item in one:
        same = level & places.get(item, 0)
        level = (level + same | level - same) & all_
    return len(other) - level.bit_count()


def edits(written: Sequence[Hashable], said: Sequence[Hashable]) -> int:
    """Levenshtein distance: the fewest items to add, leave out or replace.

    A column of the table of distances is kept as two numbers, with a bit for each place that is one more, or one less,
    than the place above it (Myers, 1999; in the form of Hyyrö, 2003).
    """
    if not said:
        return len(written)
    places = _places(said)
    all_, last = (1 << len(said)) - 1, 1 << (len(said) - 1)
    more, less, distance = all_, 0, len(said)
    for item in written:
        same = places.get(item, 0)
        zero = (((same & more) + more) ^ more) | same | less
        up, down = less | (all_ & ~(zero | more)), more & zero
        distance += bool(up & last) - bool(down & last)
        up, down = up << 1 | 1, down << 1
        more, less = (down | ~(zero | up)) & all_, up & zero & all_
    return distance


def _places(items: Sequence[Hashable]) -> dict[Hashable, int]:
    """Where each item stands, as bits."""
    places: dict[Hashable, int] = {}
    for number, item in enumerate(items):
        places[item] = places.get(item, 0) | 1 << number
    return places
