"""A rank that is slower than the others is found, and named."""

from dataclasses import asdict
from pathlib import Path

import pytest

from pretune_trainer.data.prefetch import Prefetch
from pretune_trainer.parallel import Ranks
from pretune_trainer.spread import Spread
from support.group import in_ranks
from support.jobs import pretrain
from support.runs import run

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


def test_each_step_tells_how_ranks_differ_and_how_long_it_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Spread(slowest_rank=3, slowest_seconds=0.75, fastest_seconds=0.25, memory=77)
    monkeypatch.setattr(Spread, "over", lambda *_: found)
    monkeypatch.setattr(Prefetch, "take_waited", lambda _: 0.5)
    _, (step,) = run(Ranks(), pretrain(tmp_path, training__max_steps=1, data__validation=None))
    assert asdict(step).items() >= {**asdict(found), "data_wait_seconds": 0.5}.items()
