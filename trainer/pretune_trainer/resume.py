"""What a checkpoint holds, and the way there and back."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pretune_api.checkpoint import CheckpointState
from pretune_api.checkpoint import Cursor as SavedCursor
from pretune_trainer.data.example import Cursor
from pretune_trainer.errors import UserError
from pretune_trainer.optim import Stability
from pretune_trainer.report import Reporter, Said
from pretune_trainer.stopping import Improvement
from pretune_trainer.storage.checkpoint import Checkpoints


@dataclass
class State:
    """Where training is."""

    step: int = 0
    cursor: Cursor = field(default_factory=Cursor)
    tokens: int = 0
    seconds: float = 0.0
    """Time spent in steps whose result was kept."""
    evaluated_step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    """Figures of the last evaluation that are finite."""
    baseline: dict[str, float] = field(default_factory=dict)
    """Those of the evaluation before the first step."""
    micro_batch_rows: int = 0
    """Rows a rank computes at once; 0 as long as nobody has chosen."""


@dataclass(frozen=True)
class Resumable:
    """A training whose state can be saved and restored."""

    checkpoints: Checkpoints
    tensors: Mapping[str, Tensor]
    """Trained weights, buffers and the optimizer's moments, by name."""
    stability: Stability
    improvement: Improvement | None
    model_digest: str
    """Names the model that training started from."""
    data_digest: str
    """Names the data and how it was tokenised."""
    ranks: int
    reporter: Reporter

    def restore(self) -> State:
        """The state of the newest whole checkpoint, tensors included; a new one where there is none. Collective.

        Raises:
            UserError: the checkpoint is of another model, or of other data.
        """
        found = self.checkpoints.latest(self.tensors)
        if found is None:
            return State()
        self._check(found.state, found.origin.path)
        self._restore_policies(found.state)
        return _state(found.state)

    def save(self, state: State) -> None:
        """Commit a checkpoint in the background. Collective."""
        self.checkpoints.save(self.tensors, self._saved(state))

    def restore_best(self, state: State) -> State:
        """The state at the best evaluation, tensors included; `state` itself where that is the best. Collective."""
        best = self.improvement.best_step if self.improvement else None
        if best is None or best == state.step:
            return state
        found = self.checkpoints.at(best, self.tensors)
        if found is None:
            self.reporter.tell(Said(f"the best checkpoint, of step {best}, is lost; step {state.step} is exported"))
            return state
        return _state(found.state)

    def _check(self, saved: CheckpointState, path: str) -> None:
        if saved.model_digest != self.model_digest:
            raise UserError(
                "spec.model",
                f"{path} started from a different model ({saved.model_digest}, now {self.model_digest}); "
                "what a job starts from must not change: rename the job",
            )
        if saved.data_digest != self.data_digest:
            raise UserError(
                "spec.data",
                f"{path} was trained on different data ({saved.data_digest}, now {self.data_digest}); "
                "files of a source must not change while a job runs, and a newer trainer may read them differently: "
                "go back to the version that it began with (spec.compute.image), or rename the job",
            )

    def _restore_policies(self, saved: CheckpointState) -> None:
        self.stability.skipped = saved.skipped_steps
        self.stability.mean.fill_(math.nan if saved.loss_mean is None else saved.loss_mean)
        if self.improvement is not None:
            self.improvement.best = saved.best_value
            self.improvement.best_step = saved.best_step
            self.improvement.waited = saved.evaluations_without_improvement

    def _saved(self, state: State) -> CheckpointState:
        cursor, improvement, mean = state.cursor, self.improvement, float(self.stability.mean)
        return CheckpointState(
            step=state.step,
            cursor=SavedCursor(epoch=cursor.epoch, window=cursor.window, row=cursor.row),
            tokens_total=state.tokens,
            micro_batch_rows=state.micro_batch_rows,
            evaluated_step=state.evaluated_step,
            metrics=state.metrics,
            baseline=state.baseline,
            best_step=improvement.best_step if improvement else None,
            best_value=improvement.best if improvement else None,
            evaluations_without_improvement=improvement.waited if improvement else 0,
            skipped_steps=self.stability.skipped,
            loss_mean=mean if math.isfinite(mean) else None,
            data_digest=self.data_digest,
            model_digest=self.model_digest,
            ranks=self.ranks,
            training_seconds=state.seconds,
        )


def _state(saved: CheckpointState) -> State:
    cursor = saved.cursor
    return State(
        step=saved.step,
        cursor=Cursor(cursor.epoch, cursor.window, cursor.row),
        tokens=saved.tokens_total,
        seconds=saved.training_seconds,
        evaluated_step=saved.evaluated_step,
        metrics=dict(saved.metrics),
        baseline=dict(saved.baseline),
        micro_batch_rows=saved.micro_batch_rows,
    )


def checkpoint_tensors(step: torch.nn.Module, optimizer_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is saved: trained parameters, buffers, the optimizer's state. Frozen weights come from the parent again."""
    trained = {name: parameter for name, parameter in step.named_parameters() if parameter.requires_grad}
    kept = step.state_dict().keys()
    buffers = {name: buffer for name, buffer in step.named_buffers() if name in kept}
    return {**trained, **buffers, **optimizer_state}
