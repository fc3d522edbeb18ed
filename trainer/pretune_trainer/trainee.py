"""The model as it is trained: prepared by its method, sharded, with its optimizer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from pretune_api.training import Training
from pretune_trainer.data.example import Example, Pack
from pretune_trainer.inputs import Inputs
from pretune_trainer.methods import Tuned
from pretune_trainer.model.flops import Utilization, utilization
from pretune_trainer.model.shapes import Shapes
from pretune_trainer.optim import make_optimizer
from pretune_trainer.parallel import Ranks
from pretune_trainer.step import Step, autocast, defer_reduction, prepare

_LEARNT: Final = ("mask", "before")
"""Arrays of an example that say which of its tokens are learnt; of ones, they say that all are. What is not learnt has
no logits, and takes less memory."""


@dataclass(frozen=True)
class Trainee:
    """What learns."""

    tuned: Tuned
    shapes: Shapes[Tuned] | None
    """The same before it was sharded, without weights; None where one rank has all of it."""
    step: Step
    optimizer: torch.optim.AdamW
    parameters: int
    """Parameters of the model."""
    trainable: int
    """Parameters that are trained."""
    utilization: Utilization
    """What its arithmetic costs."""

    def probe(self, longest: Example, training: Training, ranks: Ranks, most: int, rows: int) -> None:
        """Compute forward and backward of `rows` of the longest example, as if all of it were learnt, and forget it.

        Where a step has `most` rows, which are more, gradients of others are held meanwhile, as they are in a step.
        """
        example = {name: np.ones_like(values) if name in _LEARNT else values for name, values in longest.items()}
        parts = [1, rows] if rows < most else [rows]
        for number, part in enumerate(parts, start=1):
            batch = self.step.task.batch([Pack((example,))] * part).to(ranks.device)
            defer_reduction(self.step, last=number == len(parts))
            with autocast(training, ranks):
                loss = self.step(batch, batch.counts)
            loss.backward()
        self.optimizer.zero_grad(set_to_none=True)


def make_trainee(inputs: Inputs, ranks: Ranks) -> Trainee:
    """Make the model, its step and its optimizer. Collective."""
    training = inputs.config.training
    tuned, shapes = make_once(inputs.make_model, ranks)
    inputs.task.observe(tuned.model)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in tuned.model.parameters()]
    used = utilization(tuned.model, training, ranks)
    step = Step(tuned.model, inputs.task).train()  # models come from a parent as they are judged: without dropout
    prepare(step, training, ranks)
    return Trainee(
        tuned=tuned,
        shapes=shapes,
        step=step,
        optimizer=make_optimizer(step, training, {f"model.{name}": rate for name, rate in tuned.rates.items()}),
        parameters=sum(size for size, _ in sizes),
        utilization=used,
        trainable=sum(size for size, trained in sizes if trained),
    )


def make_once(make: Callable[[], Tuned], ranks: Ranks) -> tuple[Tuned, Shapes[Tuned] | None]:
    """What rank 0 makes, which the others have as shapes alone; and those, where there are others. Collective.

    Raises:
        Exception: what `make` raised, on all ranks.
    """
    if ranks.size == 1:
        return make(), None
    made: list[Tuned] = []

    def first() -> Shapes[Tuned]:
        made.append(make())
        return Shapes.of(made[0], made[0].model)

    shapes = ranks.once(first)
    return (made[0] if made else shapes.make()), shapes
