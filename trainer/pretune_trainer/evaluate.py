"""Judging a model on the validation data, on all ranks, without keeping logits."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from pretune_trainer.data.prefetch import Prefetch
from pretune_trainer.errors import StopRequestedError
from pretune_trainer.metrics.base import Metric
from pretune_trainer.parallel import Ranks
from pretune_trainer.step import Step
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


def evaluate(step: Step, batches: Iterator[Batch], ranks: Ranks, vote: StopVote) -> Judgement:
    """What the task's metrics say of all ranks' batches. Collective; every rank has the same number of batches.

    Raises:
        StopRequestedError: the run was asked to stop meanwhile; nothing was measured.
    """
    metrics = step.task.metrics()
    step.eval()
    try:
        with torch.no_grad(), Prefetch(batches, _AHEAD) as ahead:
            for batch in ahead:
                vote.ask()
                outcomes = step.evaluate(batch.to(ranks.device))
                for metric in metrics:
                    metric.update(outcomes)
                if vote.agreed():
                    raise StopRequestedError("the run was asked to stop during an evaluation")
    finally:
        step.train()
    return _merged(metrics, ranks)


def _merged(metrics: list[Metric[Any]], ranks: Ranks) -> Judgement:
    """Merged in order of ranks, so that every rank computes the same figures."""
    first, *others = ranks.gather(metrics)
    for other in others:
        for metric, part in zip(first, other, strict=True):
            metric.merge(part)
    judgement = Judgement({}, {})
    for metric in first:
        judgement.figures.update(metric.result())
        judgement.exhibits.update(metric.exhibits().model_dump(mode="json", exclude_defaults=True))
    return judgement
