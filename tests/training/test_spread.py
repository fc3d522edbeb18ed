"""A rank that is slower than the others is found, and named."""

from pretune_trainer.parallel import Ranks
from pretune_trainer.spread import Spread
from support.group import in_ranks

SECONDS = (0.25, 0.75)


def spread(ranks: Ranks) -> Spread:
    return Spread.over(ranks, SECONDS[ranks.rank])


def test_every_rank_knows_the_slowest_and_by_how_much() -> None:
    first, second = in_ranks(2, spread)
    assert first == second
    assert (first.slowest_rank, first.slowest_seconds, first.fastest_seconds) == (1, 0.75, 0.25)
    assert first.memory > 50 << 20  # a process that has imported torch


def test_a_rank_that_is_alone_is_the_slowest_and_the_fastest() -> None:
    alone = Spread.over(Ranks(), 0.5)
    assert (alone.slowest_rank, alone.slowest_seconds, alone.fastest_seconds) == (0, 0.5, 0.5)
