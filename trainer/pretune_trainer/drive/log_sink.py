"""What rank 0 tells, as lines of a log."""

import time
from collections.abc import Callable
from typing import Final

from pretune_trainer.drive.wire import Ending
from pretune_trainer.metrics.slices import is_of_label
from pretune_trainer.report import Committed, Evaluated, Event, Said, Start, Step

_STEP_SECONDS: Final = 30.0
"""Between two steps that are written."""


class LogSink:
    """Writes into a log what is worth keeping: of steps, one every half minute."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """`say` adds a line to the log."""
        self._say = say
        self._last_step = -_STEP_SECONDS

    def write(self, events: list[Event]) -> None:
        """Take in events."""
        for event in events:
            match event:
                case Start():
                    self._say(_started(event))
                case Step() if self._is_due():
                    speed = f"{event.tokens / event.seconds:,.0f} tokens/s" if event.seconds else ""
                    self._say(f"step {event.step}: loss {event.loss:.4f}, {speed}")
                case Evaluated():
                    self._say(f"step {event.step}: {figures(event.metrics)}")
                case Committed():
                    self._say(f"step {event.step} is committed, {event.size:,} bytes in {event.seconds:.1f} s")
                case Said():
                    self._say(event.text)

    def close(self, ending: Ending | None) -> None:
        """The end is in the log already."""

    def _is_due(self) -> bool:
        is_due = time.monotonic() - self._last_step >= _STEP_SECONDS
        if is_due:
            self._last_step = time.monotonic()
        return is_due


def figures(metrics: dict[str, float]) -> str:
    """Metrics in one line; figures of single labels, which have [brackets], are left to the artifact's metrics.json."""
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if not is_of_label(name))


def _started(event: Start) -> str:
    return (
        f"run {event.run}: {event.stage}, {event.parameters:,} parameters, {event.trainable:,} of them trained,"
        f" from step {event.from_step} of {event.total_steps}"
    )
