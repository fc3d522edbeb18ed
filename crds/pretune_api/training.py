"""How a job trains: optimizer, schedule, evaluation, early stopping, checkpoints."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pretune_api.base import Rule, Spec
from pretune_api.units import ColumnName, MetricName, Ratio, Steps, Tokens, UniqueList

Schedule = Literal["constant", "linear", "cosine", "inverseSquareRoot", "warmupStableDecay"]


class Instability(Spec):
    """What happens when a step's loss or gradient is not finite, or the loss jumps. All ranks decide alike."""

    max_skipped_steps: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Bad steps left out (no update is made) before training ends with cause NumericalError."""
    spike_factor: Annotated[float | None, Field(gt=1.0, le=1_000.0)] = None
    """A loss over this many times its running mean is a bad step too; without it, only non-finite values are."""


class Training(Spec):
    """The optimizer (AdamW) and its schedule. The global batch is the same at any number of workers."""

    tokens_per_step: Tokens | None = None
    """Global batch in tokens: sequenceLength times the rows of a step. Excludes examplesPerStep."""
    examples_per_step: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Global batch in rows (examples, where a task does not pack). Excludes tokensPerStep."""
    max_steps: Steps | None = None
    """Optimizer steps after which training ends; with epochs too, what comes first."""
    epochs: Annotated[float | None, Field(gt=0.0, le=10_000.0)] = None
    """Passes over the training data after which training ends."""
    learning_rate: Annotated[float, Field(gt=0.0, le=10.0)] = 3e-4
    """Peak learning rate."""
    schedule: Schedule = "cosine"
    """Course of the learning rate after the warm-up."""
    warmup_steps: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """Steps over which the learning rate rises linearly from 0."""
    decay_steps: Steps | None = None
    """Length of the final decay of warmupStableDecay; a tenth of all steps when absent."""
    min_learning_rate_ratio: Ratio = 0.0
    """Lowest learning rate after the warm-up, as a share of the peak, at which all schedules but constant and
    inverseSquareRoot end."""
    weight_decay: Annotated[float, Field(ge=0.0, le=10.0)] = 0.1
    """Decoupled weight decay; biases, norms and other vectors are exempt."""
    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Decay of AdamW's first moment."""
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    """Decay of AdamW's second moment."""
    epsilon: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-8
    """AdamW's epsilon."""
    gradient_clip: Annotated[float | None, Field(gt=0.0, le=1_000.0)] = 1.0
    """Largest norm of the whole gradient; null turns clipping off."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Precision of the arithmetic; weights and optimizer states are always kept in fp32."""
    seed: Annotated[int, Field(ge=0, le=4_294_967_295)] = 0
    """Seed of everything random: weights, order of the data, dropout."""
    micro_batch_rows: Annotated[int | None, Field(ge=1, le=100_000)] = None
    """Rows a rank computes at once; chosen by a memory probe when absent. The loss does not depend on it."""
    activation_checkpointing: bool = False
    """Recompute each block in the backward pass: less memory, about a third more arithmetic."""
    compile: bool = False
    """Compile each block with torch.compile."""
    instability: Instability = Instability()
    """What happens when training becomes unstable."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="set exactly one of tokensPerStep and examplesPerStep",
            cel="has(self.tokensPerStep) != has(self.examplesPerStep)",
            holds=lambda self: (self.tokens_per_step is None) != (self.examples_per_step is None),
        ),
        Rule(
            field="decaySteps",
            message="it is the length of warmupStableDecay's decay; leave it out, or set this schedule",
            cel="!has(self.decaySteps) || self.schedule == 'warmupStableDecay'",
            holds=lambda self: self.decay_steps is None or self.schedule == "warmupStableDecay",
        ),
        Rule(
            message="set maxSteps or epochs: without one, training would never end",
            cel="has(self.maxSteps) || has(self.epochs)",
            holds=lambda self: self.max_steps is not None or self.epochs is not None,
        ),
    )


class Evaluation(Spec):
    """When the validation data is looked at, and what is measured on it."""

    every_steps: Steps | None = None
    """Steps between evaluations; the model is always evaluated at the end."""
    baseline: bool = False
    """Evaluate before the first step, too: the model card shows what training has added."""
    max_batches: Steps | None = None
    """Most batches looked at, each as large as a training step's, spread over the validation data; all when absent."""
    metrics: Annotated[UniqueList[MetricName], Field(min_length=1, max_length=32)] | None = None
    """Metrics to report, by name; without it, those of the objective or task."""
    slices: Annotated[UniqueList[ColumnName], Field(max_length=4)] = []
    """Columns, such as language, accent or group, for each of whose values the metrics are reported too, as
    perplexity/language=de. At most 64 values, or combinations of values, in the validation data."""


class EarlyStopping(Spec):
    """Ends training when a validation metric stops improving, and keeps the best checkpoint."""

    metric: MetricName = "loss"
    """Metric watched, as named in evaluation.metrics."""
    patience: Annotated[int, Field(ge=1, le=1_000)] = 3
    """Evaluations without improvement before training ends."""
    min_delta: Annotated[float, Field(ge=0.0, le=1e9)] = 0.0
    """Smallest change that counts as an improvement, in the metric's unit."""


class Checkpointing(Spec):
    """When training state is committed, and how much of it is kept."""

    every_steps: Steps = 500
    """Steps between checkpoints; one is also made when training ends or is asked to stop."""
    keep: Annotated[int, Field(ge=1, le=1_000)] = 3
    """Newest checkpoints that are kept, beside the best one."""
