"""Leaving together: all ranks agree, once a step, whether the run shall stop."""

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from pretune_api.training import EarlyStopping
from pretune_trainer.parallel import Ranks
from pretune_trainer.report import Reporter


class StopVote:
    """An agreement that never makes a device wait: asked at the start of a step, read at its end."""

    def __init__(self, ranks: Ranks, reporter: Reporter) -> None:
        """Collective."""
        self._channel = ranks.fork()
        self._reporter = reporter
        self._vote: Tensor | None = None
        self._work: dist.Work | None = None

    def ask(self, wanted: bool = False) -> None:
        """Cast this rank's vote, to stop where that is `wanted` or was asked for. Collective, but does not wait."""
        wanted = wanted or self._reporter.stop_requested()
        self._vote = torch.tensor([int(wanted)])
        if self._channel.size > 1:
            self._work = dist.all_reduce(self._vote, dist.ReduceOp.MAX, group=self._channel.group, async_op=True)

    def agreed(self) -> bool:
        """Whether any rank wanted to stop when `ask` was called."""
        if self._work is not None:
            self._work.wait()
            self._work = None
        return self._vote is not None and bool(self._vote.item())

    def now(self) -> bool:
        """Ask and read in one. Collective."""
        self.ask()
        return self.agreed()


@dataclass
class Improvement:
    """Whether a validation metric still improves (early stopping)."""

    spec: EarlyStopping
    larger_is_better: bool
    best: float | None = None
    best_step: int | None = None
    waited: int = 0
    """Evaluations since the best one."""

    def improved(self, step: int, metrics: dict[str, float]) -> bool:
        """Take in an evaluation; whether it is the best so far, which one that is not finite never is."""
        value = metrics[self.spec.metric]
        sign = 1.0 if self.larger_is_better else -1.0
        if math.isfinite(value) and (self.best is None or sign * (value - self.best) > self.spec.min_delta):
            self.best, self.best_step, self.waited = value, step, 0
            return True
        self.waited += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether patience is at its end."""
        return self.waited >= self.spec.patience
