"""What a run tells the world, and the one thing it is told: to stop."""

import math
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Start:
    """A run has taken its place: training begins, or goes on."""

    stage: str
    """Objective or task."""
    run: int
    """Ordinal of the run."""
    from_step: int
    """Step of the checkpoint it starts from; 0 from the beginning."""
    total_steps: int
    """Optimizer steps planned."""
    parameters: int
    """Parameters of the model."""
    trainable: int
    """Parameters that are trained."""
    rows_per_step: int
    """Global batch in rows."""
    micro_batch_rows: int
    """Rows a rank computes at once."""
    checkpoint_every: int
    """Steps between checkpoints."""


@dataclass(frozen=True)
class Step:
    """One optimizer step."""

    step: int
    """Steps done."""
    loss: float
    """Mean loss of the step's targets, over all ranks."""
    learning_rate: float
    """Learning rate of the step."""
    grad_norm: float
    """Norm of the whole gradient, before clipping."""
    tokens: int
    """Tokens of this step, over all ranks."""
    tokens_total: int
    """Tokens trained on so far, over all runs."""
    seconds: float
    """Wall time of the step."""
    data_wait_seconds: float
    """Part of it spent waiting for data."""
    skipped: bool = False
    """Whether the update was left out, by the policy on instability."""
    mfu: float = math.nan
    """Share of the devices' arithmetic that was used; not a number where their peak is not known."""
    slowest_rank: int = 0
    """The rank that took longest to make its batches."""
    slowest_seconds: float = 0.0
    """Time that it took."""
    fastest_seconds: float = 0.0
    """Time of the rank that was done first."""
    memory: int = 0
    """Most bytes that a rank has used so far: of its device, or of its process where that is the CPU."""


@dataclass(frozen=True)
class Evaluated:
    """An evaluation on the validation data, or of the finished model on the test data, too."""

    step: int
    """Step of the weights evaluated."""
    metrics: dict[str, float]
    """Figures by name."""
    seconds: float
    """Wall time."""


@dataclass(frozen=True)
class Exhibited:
    """What an evaluation leaves to look at; told after its figures, where there is something."""

    step: int
    """Step of the weights evaluated."""
    exhibits: dict[str, Any]
    """The fields of `metrics.exhibits.Exhibits` that are set, as JSON."""


@dataclass(frozen=True)
class Committed:
    """A checkpoint is in storage."""

    step: int
    """Its step."""
    blocked_seconds: float
    """Time that training stood still for it."""
    seconds: float
    """Time from its beginning to the commit."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Said:
    """A sentence for people: a checkpoint that was damaged, a row that was left out."""

    text: str
    """The sentence."""


@dataclass(frozen=True)
class Shown:
    """The first training example as the model sees it: told when training begins, not when it goes on.

    It is text of the data, which whoever reads the logs of a cluster need not be allowed to see. So it goes where the
    data is, into the history, and to whoever has started `pretune run`; into no log.
    """

    text: str
    """A line for each row of tokens; what is learnt stands in ⟦ ⟧."""


Event = Start | Step | Evaluated | Exhibited | Committed | Said | Shown


class Reporter(Protocol):
    """Takes events from rank 0, never blocks training, and knows whether the run shall stop."""

    def tell(self, event: Event) -> None:
        """Pass on an event."""

    def stop_requested(self) -> bool:
        """Whether someone has asked the run to stop."""


class Silent:
    """Tells nobody, and is never asked to stop: every rank but the first."""

    def tell(self, event: Event) -> None:
        """Drop the event."""

    def stop_requested(self) -> bool:
        """No."""
        return False
