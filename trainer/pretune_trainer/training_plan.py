"""How long training is: rows of a step, steps in all."""

import math
from dataclasses import dataclass

from pretune_api.run_config import RunConfig
from pretune_api.training import Training
from pretune_trainer.data.stream import Stream
from pretune_trainer.errors import UserError
from pretune_trainer.inputs import Inputs
from pretune_trainer.optim import schedule, warmup_steps
from pretune_trainer.parallel import Ranks


@dataclass(frozen=True)
class TrainingPlan:
    """What training consists of."""

    stream: Stream
    """This rank's packs of each step."""
    rows_per_step: int
    """Global batch in rows."""
    total_steps: int
    """Optimizer steps after which training ends."""


def plan_training(inputs: Inputs, ranks: Ranks) -> TrainingPlan:
    """What the spec asks for, of the data that there is."""
    training = inputs.config.training
    rows = rows_per_step(inputs.config)
    stream = Stream(inputs.cache, inputs.task.layout, training.seed, rows, ranks.rank, ranks.size)
    limits = [training.max_steps] if training.max_steps is not None else []
    if training.epochs is not None:
        limits.append(math.ceil(training.epochs * stream.rows_per_epoch() / rows))
    return TrainingPlan(stream, rows, min(limits))


def warmup_sentence(training: Training, total_steps: int) -> str | None:
    """What a warm-up means that training does not outlast, in a sentence; None where it does.

    Few rows make few steps: a model that has hardly learnt says the commonest label, and no loss tells why.
    """
    last = schedule(training, total_steps)(total_steps - 1)
    reached, wanted = (f"{rate:.1e}" for rate in (last, training.learning_rate))
    if warmup_steps(training, total_steps) < total_steps or reached == wanted:
        return None
    said = f"training ends with step {total_steps}, so the learning rate rises to {reached} alone"
    field = "warmupSteps" if training.warmup_ratio is None else "warmupRatio"
    return f"spec.training.{field}: {said}, not to {wanted}; lower it, or train longer"


def early_stopping_sentence(config: RunConfig, total_steps: int) -> str | None:
    """That training ends before a metric is looked at for the second time, in a sentence; None where it does not."""
    every = config.evaluation.every_steps
    if config.early_stopping is None or every is None or every < total_steps:
        return None
    said = f"training ends with step {total_steps}, so earlyStopping, which looks every {every} steps, has no effect"
    return f"spec.evaluation.everySteps: {said}; lower it, or train longer"


def rows_per_step(config: RunConfig) -> int:
    """The global batch in rows.

    Raises:
        UserError: it is less than one.
    """
    if config.training.examples_per_step is not None:
        return config.training.examples_per_step
    tokens, length = config.training.tokens_per_step, config.data.sequence_length
    assert tokens is not None, "the spec sets one of tokensPerStep and examplesPerStep"
    if tokens < length:
        raise UserError("spec.training.tokensPerStep", f"{tokens} is less than one row of {length} tokens")
    return tokens // length
