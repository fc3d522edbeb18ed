"""Where a job stands, drawn from what its ranks tell: what /progress says, and `pretune run` shows."""

import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pretune_trainer.drive.wire import Ending, Order, finite
from pretune_trainer.report import Committed, Evaluated, Event, Start, Step

_WINDOW: Final = 50
"""Steps over which speed is averaged."""


@dataclass
class Progress:
    """One order, from the moment it is taken to its ending. Not thread-safe: the board guards it."""

    order: Order
    stopping: bool = False
    start: Start | None = None
    step: Step | None = None
    committed: Committed | None = None
    committed_at: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    ending: Ending | None = None
    _since: float = field(default_factory=time.monotonic)
    _recent: deque[Step] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    _furthest: int = 0
    _useful_seconds: float = 0.0

    def take(self, event: Event) -> None:
        """Take in what the ranks tell."""
        match event:
            case Start():
                self._take_start(event)
            case Step():
                self._take_step(event)
            case Committed():
                self.committed, self.committed_at = event, time.monotonic()
            case Evaluated():
                self.metrics = event.metrics

    def completed(self, ending: Ending) -> Ending:
        """The ending of a run that was cut short, with what is known of it."""
        return replace(ending, step=ending.step or self.steps_done, metrics=ending.metrics or self.metrics)

    @property
    def state(self) -> str:
        """Starting, Running, Stopping, Succeeded, Failed or Stopped."""
        if self.ending is not None:
            return self.ending.state
        if self.stopping:
            return "Stopping"
        return "Running" if self.start else "Starting"

    @property
    def steps_done(self) -> int:
        """Optimizer steps done."""
        if self.step is not None:
            return self.step.step
        return self.start.from_step if self.start else 0

    @property
    def is_running(self) -> bool:
        """Whether ranks train, evaluate, or publish."""
        return self.start is not None and self.ending is None

    @property
    def preparing_seconds(self) -> float:
        """How long data and model have been prepared; 0 once training has started, or will not."""
        return 0.0 if self.start or self.ending else time.monotonic() - self._since

    @property
    def uncommitted_steps(self) -> int:
        """Steps that would have to be done again if the run were lost now."""
        started = self.start.from_step if self.start else 0
        return self.steps_done - max(started, self.committed.step if self.committed else 0)

    @property
    def tokens_per_second(self) -> float:
        """Speed over the last steps; 0 before the first."""
        seconds = sum(step.seconds for step in self._recent)
        return sum(step.tokens for step in self._recent) / seconds if seconds else 0.0

    @property
    def goodput(self) -> float:
        """Share of the time since the order was taken that went into steps never done before."""
        return self._useful_seconds / max(time.monotonic() - self._since, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """The document at /progress. Figures that are not known yet are null."""
        total = self.start.total_steps if self.start else 0
        return finite(
            {
                "state": self.state,
                "stage": self.order.stage,
                "job": self.order.job,
                "run": self.start and self.start.run,
                "fromStep": self.start and self.start.from_step,
                "step": self.steps_done,
                "total": total,
                "percent": 100 * self.steps_done // total if total else 0,
                "etaSeconds": self._eta(total),
                "loss": self.step and self.step.loss,
                "tokensPerSecond": self.tokens_per_second or None,
                "learningRate": self.step and self.step.learning_rate,
                "checkpoint": self._checkpoint(),
                "metrics": self.metrics,
                "ending": self.ending and self.ending.to_json(),
            }
        )

    def _take_start(self, event: Start) -> None:
        self.start, self.step = event, None
        self._recent.clear()
        self._furthest = max(self._furthest, event.from_step)
        if self.committed is not None and self.committed.step > event.from_step:
            self.committed = None  # it was damaged: an older one was taken, and the steps after that are done again

    def _take_step(self, event: Step) -> None:
        if event.step > self._furthest and not event.skipped:
            self._useful_seconds += event.seconds
        self._furthest = max(self._furthest, event.step)
        self.step = event
        self._recent.append(event)

    def _eta(self, total: int) -> float | None:
        if not self._recent:
            return None
        seconds = sum(step.seconds for step in self._recent) / len(self._recent)
        return round(seconds * max(total - self.steps_done, 0), 1)

    def _checkpoint(self) -> dict[str, float] | None:
        if self.committed is None:
            return None
        return {"step": self.committed.step, "ageSeconds": round(time.monotonic() - self.committed_at, 1)}
