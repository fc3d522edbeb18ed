"""How a job trains: optimizer, schedule, evaluation, early stopping, checkpoints."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pretune_api.base import Rule, Spec
from pretune_api.units import ColumnName, MetricName, Ratio, Steps, Tokens, UniqueList

Schedule = Literal["constant", "linear", "cosine", "inverseSquareRoot", "warmupStableDecay"]


class Instability(Spec):
    """What happens if a step's loss or gradient is not finite, or the loss spikes. All ranks decide alike."""

    max_skipped_steps: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Number of bad steps to skip (without an update) before training ends with the cause NumericalError."""
    spike_factor: Annotated[float | None, Field(gt=1.0, le=1_000.0)] = None
    """A step is also bad if its loss exceeds this many times the running mean; by default, only non-finite values make
    it bad."""


class Training(Spec):
    """The optimizer (AdamW) and its schedule. The global batch is the same with any number of workers."""

    tokens_per_step: Tokens | None = None
    """Global batch size in tokens: sequenceLength times the rows per step. Excludes examplesPerStep."""
    examples_per_step: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Global batch size in rows (examples, if the task does not pack them). Excludes tokensPerStep."""
    max_steps: Steps | None = None
    """Optimizer steps after which training ends; if epochs is set as well, whichever comes first."""
    epochs: Annotated[float | None, Field(gt=0.0, le=10_000.0)] = None
    """Passes over the training data after which training ends."""
    learning_rate: Annotated[float, Field(gt=0.0, le=10.0)] = 3e-4
    """Peak learning rate."""
    schedule: Schedule = "cosine"
    """Learning rate schedule after the warm-up."""
    warmup_steps: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """Steps over which the learning rate rises linearly from 0."""
    warmup_ratio: Ratio | None = None
    """The warm-up as a share of all steps, such as 0.03: epochs do not tell their number. Excludes warmupSteps."""
    decay_steps: Steps | None = None
    """Length in steps of the final decay of warmupStableDecay; defaults to a tenth of all steps."""
    min_learning_rate_ratio: Ratio = 0.0
    """Minimum learning rate after the warm-up, as a share of the peak; all schedules except constant and
    inverseSquareRoot end at it."""
    weight_decay: Annotated[float, Field(ge=0.0, le=10.0)] = 0.1
    """Decoupled weight decay; biases, norms and other vectors are exempt."""
    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Decay of AdamW's first moment."""
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    """Decay of AdamW's second moment."""
    epsilon: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-8
    """AdamW's epsilon."""
    gradient_clip: Annotated[float | None, Field(gt=0.0, le=1_000.0)] = 1.0
    """Maximum norm of the whole gradient; null turns clipping off."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Precision of the arithmetic; weights and optimizer states are always kept in fp32."""
    seed: Annotated[int, Field(ge=0, le=4_294_967_295)] = 0
    """Seed for everything random: weights, order of the data, dropout."""
    micro_batch_rows: Annotated[int | None, Field(ge=1, le=100_000)] = None
    """Rows that a rank computes at once; chosen by a memory probe by default. The loss does not depend on it."""
    activation_checkpointing: bool = False
    """Recompute each block in the backward pass, which needs less memory, but about a third more computation."""
    compile: bool = False
    """Compile each block with torch.compile."""
    instability: Instability = Instability()
    """What happens if training becomes unstable."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="set exactly one of tokensPerStep and examplesPerStep",
            cel="has(self.tokensPerStep) != has(self.examplesPerStep)",
            holds=lambda self: (self.tokens_per_step is None) != (self.examples_per_step is None),
        ),
        Rule(
            field="warmupRatio",
            message="set it or warmupSteps, not both",
            cel="!has(self.warmupRatio) || self.warmupSteps == 0",
            holds=lambda self: self.warmup_ratio is None or self.warmup_steps == 0,
        ),
        Rule(
            field="decaySteps",
            message="it applies only to the schedule warmupStableDecay; remove it, or set that schedule",
            cel="!has(self.decaySteps) || self.schedule == 'warmupStableDecay'",
            holds=lambda self: self.decay_steps is None or self.schedule == "warmupStableDecay",
        ),
        Rule(
            message="set maxSteps or epochs; otherwise, training would never end",
            cel="has(self.maxSteps) || has(self.epochs)",
            holds=lambda self: self.max_steps is not None or self.epochs is not None,
        ),
    )


class Evaluation(Spec):
    """When the model is evaluated on the validation data, and with which metrics."""

    every_steps: Steps | None = None
    """Steps between evaluations; the model is always evaluated at the end."""
    baseline: bool = False
    """Also evaluate before the first step, so that the model card shows what training has added."""
    max_batches: Steps | None = None
    """Maximum number of batches to evaluate on, each as large as a training step's and spread over the validation data;
    all by default."""
    metrics: Annotated[UniqueList[MetricName], Field(min_length=1, max_length=32)] | None = None
    """Names of the metrics to report; defaults to those of the objective or task."""
    slices: Annotated[UniqueList[ColumnName], Field(max_length=4)] = []
    """Columns, such as language, accent or group; the metrics are also reported for each of their values, as
    perplexity/language=de. Validation and test data may each have at most 64 values, or combinations of values."""


class EarlyStopping(Spec):
    """Ends training when a validation metric stops improving, and keeps the best checkpoint."""

    metric: MetricName = "loss"
    """Metric to watch, as named in evaluation.metrics."""
    patience: Annotated[int, Field(ge=1, le=1_000)] = 3
    """Number of evaluations without improvement before training ends."""
    min_delta: Annotated[float, Field(ge=0.0, le=1e9)] = 0.0
    """Smallest change that counts as an improvement, in the metric's unit."""


class Checkpointing(Spec):
    """How often checkpoints are committed, and how many are kept."""

    every_steps: Steps = 500
    """Steps between checkpoints; one is also committed when training ends or is stopped."""
    keep: Annotated[int, Field(ge=1, le=1_000)] = 3
    """Number of most recent checkpoints to keep, in addition to the best one."""
