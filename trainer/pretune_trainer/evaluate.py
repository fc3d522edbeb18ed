"""Judging a model on data that is held out, on all ranks, without keeping logits."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pretune_trainer.data.prefetch import Prefetch
from pretune_trainer.errors import StopRequestedError
from pretune_trainer.metrics.slices import Metrics, Sliced, metric_of
from pretune_trainer.parallel import Ranks
from pretune_trainer.step import Step, judging
from pretune_trainer.stopping import StopVote
from pretune_trainer.tasks.base import Batch

_AHEAD = 2


@dataclass(frozen=True)
class Judgement:
    """What an evaluation has found."""

    figures: dict[str, float]
    """By name."""
    exhibits: dict[str, Any]
    """What there is to look at: the fields of `Exhibits` that are set, as JSON."""
    seconds: float
    """Wall time."""

    def asked(self, metrics: Sequence[str] | None) -> dict[str, float]:
        """The figures of these metrics, those of slices too; all for None."""
        return {name: value for name, value in self.figures.items() if metrics is None or metric_of(name) in metrics}


def evaluate(step: Step, batches: Iterator[Batch], ranks: Ranks, vote: StopVote) -> Judgement:
    """What the task's metrics say of all ranks' batches, and of each slice. Collective; every rank has as many batches
    of the same slices.

    Raises:
        StopRequestedError: the run was asked to stop meanwhile; nothing was measured.
    """
    started, sliced = time.perf_counter(), Sliced(step.task.metrics)
    with judging(step), Prefetch(batches, _AHEAD) as ahead:
        for batch in ahead:
            vote.ask()
            sliced.update(step.evaluate(batch.to(ranks.device)), batch.slices)
            if vote.agreed():
                raise StopRequestedError("stopped as requested during an evaluation")
    figures, exhibits = _merged(sliced, ranks)
    return Judgement(figures, exhibits, time.perf_counter() - started)


def _merged(sliced: Sliced, ranks: Ranks) -> tuple[dict[str, float], dict[str, Any]]:
    """Figures and exhibits of all ranks, on every rank.

    Rank 0 alone merges what was measured: the vectors of a large pool are gigabytes, which each rank of a node would
    hold, and compare, again.
    """
    measured = ranks.collect(sliced.by_slice)
    return ranks.once(lambda: _result(sliced, measured))


def _result(sliced: Sliced, measured: Sequence[Mapping[str, Metrics]]) -> tuple[dict[str, float], dict[str, Any]]:
    """Merged in order of ranks, so that repeated evaluations give the same."""
    for other in measured[1:]:
        sliced.merge(other)
    exhibits: dict[str, Any] = {}
    for metric in sliced.overall:
        exhibits |= metric.exhibits().model_dump(mode="json", exclude_defaults=True)
    return sliced.result(), exhibits
