"""What travels between driver, board and ranks: orders, events and endings, as JSON."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from pretune_api.names import Cause, ExitCode
from pretune_trainer.errors import PretuneError
from pretune_trainer.report import Committed, Evaluated, Event, Exhibited, Said, Shown, Start, Step

_EVENTS: Final[dict[str, Any]] = {
    kind.__name__: kind for kind in (Start, Step, Evaluated, Exhibited, Committed, Said, Shown)
}

LABELS: Final = ("namespace", "kind", "name")
"""What metrics tell jobs apart by; never `job`, which is a label of Prometheus' own."""


@dataclass(frozen=True)
class Order:
    """One run config, on its way to the ranks."""

    number: int
    """Ordinal of the order at its board, from 1."""
    job: Mapping[str, str | int]
    """Namespace, kind, name and UID of the job, and which attempt at it this is: whose progress it is."""
    stage: str
    """Objective or task."""
    config: dict[str, Any]
    """The run config as JSON: whoever only passes it on need not know its format."""

    @property
    def labels(self) -> dict[str, str]:
        """Namespace, kind and name of the job, by label."""
        return {label: str(self.job[label]) for label in LABELS}


@dataclass(frozen=True)
class Artifact:
    """Where a finished model lies."""

    uri: str
    """Folder."""
    digest: str
    """Digest of its manifest."""


@dataclass(frozen=True)
class Ending:
    """How an order ended: with an artifact, or with a cause."""

    exit_code: int
    """The exit code that a process ends with for it."""
    message: str
    """One sentence for people."""
    cause: str | None = None
    """Cause of a failure; None when it succeeded, or was asked to stop."""
    traceback: str | None = None
    """Stack of an error that is a mistake of ours."""
    artifact: Artifact | None = None
    """The finished model."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Figures of the last evaluation."""
    step: int = 0
    """Steps done."""
    was_done: bool = False
    """Whether an earlier run had finished the job already."""
    log: str | None = None
    """Last lines of the log of the process that failed."""

    @property
    def succeeded(self) -> bool:
        """Whether there is an artifact."""
        return self.exit_code == ExitCode.OK

    @property
    def state(self) -> str:
        """The ending in one word, as /progress says it."""
        if self.succeeded:
            return "Succeeded"
        return "Stopped" if self.exit_code == ExitCode.STOPPED else "Failed"

    def to_json(self) -> dict[str, Any]:
        """The ending as others read it: at /progress, and in the driver's last line."""
        return finite(
            {
                "exitCode": int(self.exit_code),
                "cause": self.cause,
                "message": self.message,
                "artifact": self.artifact and {"uri": self.artifact.uri, "digest": self.artifact.digest},
                "metrics": self.metrics,
                "step": self.step,
                "log": self.log,
            }
        )


def failure(message: str, traceback: str | None = None) -> Ending:
    """The ending of an order for a reason that nobody has named."""
    return Ending(ExitCode.FAILED, message, Cause.UNKNOWN, traceback)


def ending_of(error: PretuneError) -> Ending:
    """The ending of an order that an error of ours has ended."""
    cause = None if error.exit_code == ExitCode.STOPPED else error.cause
    return Ending(error.exit_code, str(error), cause)


def ending_from_json(document: dict[str, Any]) -> Ending:
    """The ending that `asdict` wrote."""
    artifact = document["artifact"]
    return Ending(**{**document, "artifact": artifact and Artifact(**artifact)})


def event_to_json(event: Event) -> dict[str, Any]:
    """The event's fields, and `event` with its name. Numbers that are not finite become null: JSON has none."""
    return {"event": type(event).__name__, **finite(asdict(event))}


def event_from_json(document: dict[str, Any]) -> Event:
    """The event that `event_to_json` wrote; null where a number was not finite becomes NaN."""
    values = {name: _restored(value) for name, value in document.items() if name != "event"}
    event: Event = _EVENTS[document["event"]](**values)
    return event


def _restored(value: object) -> Any:
    if isinstance(value, dict):
        return {name: _restored(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_restored(item) for item in value]
    return math.nan if value is None else value


def finite(document: dict[str, Any]) -> dict[str, Any]:
    """`document` with null in place of every number that is not finite, at any depth."""
    return {name: _finite(value) for name, value in document.items()}


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return finite(value)
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
