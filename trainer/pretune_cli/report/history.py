"""What the runs of a job have left in its storage: who ran when, every step, every evaluation."""

import json
import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from pretune_api.checkpoint import RunRecord
from pretune_api.run_config import RunConfig
from pretune_trainer.errors import UserError
from pretune_trainer.metrics.exhibits import Exhibits
from pretune_trainer.storage.runs import FOLDER as RUNS
from pretune_trainer.storage.store import Store

Floats = NDArray[np.float64]
T = TypeVar("T")

_CHUNK: Final = re.compile(r"^history/(\d{4,})/\d{5,}\.jsonl$")
_COLUMNS: Final = ("step", "loss", "learning_rate", "grad_norm", "tokens", "seconds", "data_wait_seconds", "mfu")


@dataclass
class RunHistory:
    """What one run told."""

    record: RunRecord
    """Its claim."""
    start: dict[str, Any] | None = None
    """Its Start event; None where it ended before it trained."""
    until: float = 0.0
    """When it was last heard of, in seconds since 1970."""
    evaluations: dict[int, dict[str, float]] = field(default_factory=dict)
    """Figures by step."""
    exhibits: dict[int, Exhibits] = field(default_factory=dict)
    """What evaluations left to look at, by step."""
    said: list[str] = field(default_factory=list)
    """Sentences for people."""
    example: str = ""
    """The first training example as the model sees it, where training began with this run."""
    _steps: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def from_step(self) -> int:
        """Step of the checkpoint that it began from."""
        return int(self.start["from_step"]) if self.start else 0

    @property
    def last_step(self) -> int:
        """The last step that it told of."""
        steps = self._steps["step"]
        return int(steps[-1]) if steps else self.from_step

    @property
    def seconds(self) -> float:
        """From its claim until it was last heard of."""
        return max(0.0, self.until - self.record.time.timestamp())

    def take(self, event: dict[str, Any]) -> None:
        """Take in a line of the history. Events of versions to come are passed over."""
        self.until = max(self.until, event["time"])
        match event["event"]:
            case "Start":
                self.start = event
            case "Step":
                for column in _COLUMNS:
                    self._steps[column].append(_number(event[column]))
            case "Evaluated":
                self.evaluations[event["step"]] = {name: _number(value) for name, value in event["metrics"].items()}
            case "Exhibited":
                self.exhibits[event["step"]] = Exhibits.model_validate(event["exhibits"])
            case "Said":
                self.said.append(event["text"])
            case "Shown":
                self.example = event["text"]

    def column(self, name: str) -> Floats:
        """A figure of every step."""
        return np.array(self._steps[name], np.float64)


@dataclass(frozen=True)
class TrainingHistory:
    """The training as it counts: of steps that were done twice, after a loss, the later ones."""

    runs: list[RunHistory]
    """In order."""
    steps: dict[str, Floats]
    """A figure of every step, by its name."""
    evaluations: dict[int, dict[str, float]]
    """Figures by step."""
    exhibits: dict[int, Exhibits]
    """What evaluations left to look at, by step."""

    @property
    def resumed_at(self) -> list[int]:
        """Steps from which later runs went on."""
        return [run.from_step for run in self.runs if run.start and run.from_step]

    def lost_steps(self, run: RunHistory) -> int:
        """Steps of a run that were lost, as the next one which trained began before them."""
        later = (other.from_step for other in self.runs if other.start and other.record.ordinal > run.record.ordinal)
        return max(0, run.last_step - next(later, run.last_step))

    @property
    def said(self) -> list[str]:
        """What the runs said to people: each sentence once."""
        return list(dict.fromkeys(sentence for run in self.runs for sentence in run.said))

    @property
    def example(self) -> str:
        """The first training example as the model sees it; empty where none is known."""
        return next((run.example for run in reversed(self.runs) if run.example), "")

    @property
    def last_step(self) -> int:
        """The last step done."""
        return int(self.steps["step"][-1]) if len(self.steps["step"]) else 0


def read_runs(job: Store) -> list[RunHistory]:
    """The runs of a job, in order.

    Raises:
        UserError: there are none.
        StorageError: the storage cannot be read.
    """
    records = [RunRecord.model_validate_json(job.get(found.path)) for found in job.list(RUNS)]
    runs = {record.ordinal: RunHistory(record) for record in records}
    for found in job.list("history"):
        if match := _CHUNK.match(found.path):
            for line in job.get(found.path).splitlines():
                runs[int(match[1])].take(json.loads(line))
    if not any(run.start for run in runs.values()):
        raise UserError(job.uri, "no job has started training here yet; check the folder, or try again later")
    return [runs[ordinal] for ordinal in sorted(runs)]


def read_config(job: Store) -> RunConfig:
    """The run config of the newest run that has begun to train.

    Raises:
        MissingObjectError: there is none.
        StorageError: the storage cannot be read.
    """
    paths = [found.path for found in job.list("history") if found.path.endswith(f"/{RunConfig.FILE_NAME}")]
    newest = max(paths, key=_run_of, default=f"history/0001/{RunConfig.FILE_NAME}")
    return RunConfig.model_validate_json(job.get(newest))


def follow(runs: list[RunHistory]) -> TrainingHistory:
    """The training that the runs make up."""
    steps = {name: np.zeros(0) for name in _COLUMNS}
    evaluations: dict[int, dict[str, float]] = {}
    exhibits: dict[int, Exhibits] = {}
    for run in runs:
        if run.start is None:
            continue
        kept = int(np.searchsorted(steps["step"], run.from_step, side="right"))
        steps = {name: np.concatenate([values[:kept], run.column(name)]) for name, values in steps.items()}
        evaluations = _until(run.from_step, evaluations) | run.evaluations
        exhibits = _until(run.from_step, exhibits) | run.exhibits
    return TrainingHistory(runs, steps, evaluations, exhibits)


def _until(last: int, by_step: dict[int, T]) -> dict[int, T]:
    return {step: value for step, value in by_step.items() if step <= last}


def _run_of(path: str) -> int:
    return int(path.split("/")[1])


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
