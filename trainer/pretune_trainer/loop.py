"""The training loop."""

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from pretune_api.run_config import RunConfig
from pretune_trainer.batches import StepBatches
from pretune_trainer.data.prefetch import Prefetch
from pretune_trainer.errors import StopRequestedError
from pretune_trainer.evaluate import Judgement, evaluate
from pretune_trainer.model.flops import Utilization
from pretune_trainer.optim import clip_gradients
from pretune_trainer.parallel import Ranks
from pretune_trainer.report import Evaluated, Exhibited, Reporter
from pretune_trainer.report import Step as StepDone
from pretune_trainer.resume import Resumable, State
from pretune_trainer.step import Step, autocast, defer_reduction
from pretune_trainer.stopping import StopVote
from pretune_trainer.tasks.base import Batch


@dataclass(frozen=True)
class Parts:
    """What the loop is put together from."""

    config: RunConfig
    ranks: Ranks
    reporter: Reporter
    step: Step
    optimizer: torch.optim.AdamW
    rate: Callable[[int], float]
    """Learning rate of a step."""
    resumable: Resumable
    """Saves the state; holds the policies on instability and on early stopping."""
    vote: StopVote
    validation: Callable[[], Iterator[Batch]] | None
    """Batches of the validation data, from the start; None where there is none."""
    baseline: Judgement | None
    """What was found before the model was made; None where the model itself is judged before the first step."""
    total_steps: int
    utilization: Utilization
    """What the steps' arithmetic costs."""


class Loop:
    """Trains from a state to the end, to the end of patience, or until asked to stop."""

    def __init__(self, parts: Parts, state: State) -> None:
        self.parts = parts
        self.state = state
        self._saved_step: int | None = state.step
        self._pending: _Pending | None = None
        self._mark = time.perf_counter()

    def train(self, ahead: Prefetch[StepBatches]) -> None:
        """Run to the end; a checkpoint of the last step is on its way to storage then.

        Raises:
            StopRequestedError: asked to stop; a checkpoint of this step is on its way to storage.
            StorageError: a checkpoint could not be committed, which is noticed with the next step.
            NumericalError: training became unstable.
        """
        try:
            with _no_collection_pauses():
                if self.state.step > 0:
                    # A run that was stopped may have committed this step before its evaluation.
                    self._pause_if_due()
                elif self.parts.config.evaluation.baseline and self.parts.validation is not None:
                    self.state.baseline = finite(
                        self._tell(self.parts.baseline or self._judge(self.parts.validation()))
                    )
                self._mark = time.perf_counter()
                while not self._ended():
                    self._step(next(ahead), ahead)
                    self._leave_if_asked()
                    self._pause_if_due()
        except StopRequestedError:
            self._save()  # raises what has become of the checkpoint before, if that is why all stop
            raise

    def _ended(self) -> bool:
        improvement = self.parts.resumable.improvement
        return self.state.step >= self.parts.total_steps or (improvement is not None and improvement.exhausted)

    def _step(self, batches: StepBatches, ahead: Prefetch[StepBatches]) -> None:
        parts = self.parts
        parts.vote.ask(parts.resumable.checkpoints.has_failed)
        seed_step(self._seed())
        if parts.step.task.couples_rows:  # a batch normalisation's statistics change in the forward pass already
            parts.resumable.checkpoints.wait_staged()
        loss = self._gradients(batches)
        norm = clip_gradients(parts.step.parameters(), parts.config.training.gradient_clip)
        bad = parts.resumable.stability.judge(loss, norm)
        rate = parts.rate(self.state.step)
        for group in parts.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        parts.resumable.checkpoints.wait_staged()
        parts.optimizer.step()
        parts.step.task.settle(parts.step.model)
        parts.optimizer.zero_grad(set_to_none=True)
        self._advance(batches)
        self._tell_pending()
        self._pending = _Pending.of(torch.stack([loss, norm, bad]), self._event(batches, rate, ahead.take_waited()))

    def _gradients(self, batches: StepBatches) -> Tensor:
        """Accumulate the gradients of the mean loss over all ranks' targets; that loss, on the device."""
        losses: list[Tensor] = []
        for number, batch in enumerate(batches.micro_batches, start=1):
            defer_reduction(self.parts.step, last=number == len(batches.micro_batches))
            with autocast(self.parts.config.training, self.parts.ranks):
                loss = self.parts.step(batch.to(self.parts.ranks.device), batches.counts)
            loss.backward()
            losses.append(loss.detach())
        return self.parts.ranks.add_tensor(torch.stack(losses).sum())

    def _seed(self) -> int:
        """Dropout's randomness belongs to the step and the rank, so that a resumed run repeats it."""
        seed = self.parts.config.training.seed
        return hash((seed, self.state.step, self.parts.ranks.rank)) & 0x7FFF_FFFF_FFFF_FFFF

    def _advance(self, batches: StepBatches) -> None:
        self.state.step += 1
        self.state.cursor = batches.after
        self.state.tokens += batches.tokens

    def _event(self, batches: StepBatches, rate: float, waited: float) -> StepDone:
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        self.state.seconds += seconds
        return StepDone(
            step=self.state.step,
            loss=0.0,
            learning_rate=rate,
            grad_norm=0.0,
            tokens=batches.tokens,
            tokens_total=self.state.tokens,
            seconds=seconds,
            data_wait_seconds=waited,
            mfu=self.parts.utilization.of(batches.tokens, batches.predicted, seconds),
            slowest_rank=batches.spread.slowest_rank,
            slowest_seconds=batches.spread.slowest_seconds,
            fastest_seconds=batches.spread.fastest_seconds,
            memory=batches.spread.memory,
        )

    def _tell_pending(self) -> None:
        """Report the step before: reading its values waits for that step, not for the one just queued."""
        if self._pending is None:
            return
        loss, norm, bad = self._pending.read()
        event = replace(self._pending.event, loss=loss, grad_norm=norm, skipped=bool(bad))
        self._pending = None
        self.parts.reporter.tell(event)
        if bad:
            self.parts.resumable.stability.count(event.step, loss, norm)

    def _leave_if_asked(self) -> None:
        if self.parts.vote.agreed():
            raise StopRequestedError(f"stopped as requested after step {self.state.step}")

    def _pause_if_due(self) -> None:
        """Evaluate and checkpoint, where this step asks for it."""
        step, last = self.state.step, self.state.step >= self.parts.total_steps
        every = self.parts.config.evaluation.every_steps
        if last or (every is not None and step % every == 0):
            self._evaluate()
        if self._ended() or step % self.parts.config.checkpoint.every_steps == 0:
            self._save()
        self._mark = time.perf_counter()

    def _evaluate(self) -> None:
        if self.parts.validation is None or self.state.evaluated_step == self.state.step:
            return
        figures = self._tell(self._judge(self.parts.validation()))
        self.state.evaluated_step = self.state.step
        self.state.metrics = finite(figures)
        improvement = self.parts.resumable.improvement
        if improvement is not None and improvement.improved(self.state.step, figures):
            self._saved_step = None
            self._save()

    def _judge(self, batches: Iterator[Batch]) -> Judgement:
        self._tell_pending()
        with autocast(self.parts.config.training, self.parts.ranks):
            return evaluate(self.parts.step, batches, self.parts.ranks, self.parts.vote)

    def _tell(self, found: Judgement) -> dict[str, float]:
        """The figures that are asked for, told to whoever listens."""
        figures = found.asked(self.parts.config.evaluation.metrics)
        self.parts.reporter.tell(Evaluated(self.state.step, figures, found.seconds))
        if found.exhibits:
            self.parts.reporter.tell(Exhibited(self.state.step, found.exhibits))
        return figures

    def _save(self) -> None:
        if self._saved_step == self.state.step:
            return
        self._tell_pending()
        gc.collect()
        self.parts.resumable.save(self.state)
        self._saved_step = self.state.step


def seed_step(seed: int) -> None:
    """Begin dropout's randomness, and that of transformers' SpecAugment, which comes from NumPy."""
    torch.manual_seed(seed)
    np.random.seed(seed & 0xFFFF_FFFF)


def finite(figures: dict[str, float]) -> dict[str, float]:
    """Those that JSON can hold."""
    return {name: value for name, value in figures.items() if math.isfinite(value)}


@dataclass(frozen=True)
class _Pending:
    """A step whose values the device may still be computing."""

    values: Tensor
    """loss, gradient norm, whether it was bad: float32 [3], on the CPU."""
    copied: torch.cuda.Event | None
    """When they have arrived there; None where they always were."""
    event: StepDone

    @classmethod
    def of(cls, values: Tensor, event: StepDone) -> Self:
        """Begin to copy values from the device.

        `tolist()` at the next step would queue its copy behind that whole step's kernels, and wait for them.
        """
        if not values.is_cuda:
            return cls(values, None, event)
        on_cpu = values.to("cpu", non_blocking=True)  # PyTorch pins what it makes for this
        copied = torch.cuda.current_stream(values.device).record_event()
        return cls(on_cpu, copied, event)

    def read(self) -> list[float]:
        """The values, as soon as the device has computed them."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.values.tolist()


@contextmanager
def _no_collection_pauses() -> Iterator[None]:
    """Garbage is collected at checkpoints, where all ranks pause anyway, instead of whenever one rank's turn comes."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
