"""How many series Prometheus has to keep is bounded, and README says by what."""

import re
import time
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import REGISTRY

from pretune_api.problems import KINDS
from pretune_api.status import State
from pretune_operator import metrics
from pretune_trainer.drive.progress import Progress
from pretune_trainer.drive.prometheus import (
    CHECKPOINT_BLOCKED_SECONDS,
    DATA_WAIT_SECONDS,
    EVALUATION,
    PREPARING_SECONDS,
    RUNNING,
    SKIPPED_STEPS,
    TOKENS,
    TrainMetrics,
)
from pretune_trainer.drive.wire import Ending, Order
from pretune_trainer.report import Committed, Evaluated, Start, Step

README = (Path(__file__).parents[2] / "README.md").read_text()
JOB = {"namespace": "team", "kind": "PretrainJob", "name": "general"}
EVENTS = (
    Start("causalLM", 1, 0, 100, 1000, 1000, 8, 4, 10),
    Step(1, 3.0, 1e-3, 0.5, tokens=1000, tokens_total=1000, seconds=0.5, data_wait_seconds=0.1, mfu=0.4),
    Committed(1, 0.1, 1.0, 99),
)


def test_of_a_job() -> None:
    said, progress = TrainMetrics(), Progress(Order(1, JOB, "causalLM", {}))
    for event in EVENTS:
        said.observe(JOB, event)
        progress.take(event)
    said.observe_progress(progress)
    series = [line for line in said.to_text().decode().splitlines() if not line.startswith("#")]
    assert f"a job has {len(series)} " in README


def values(said: TrainMetrics, name: str) -> list[float]:
    return [sample.value for family in said.registry.collect() for sample in family.samples if sample.name == name]


def test_ranks_prepare_until_training_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    said, progress = TrainMetrics(), Progress(Order(1, JOB, "causalLM", {}))
    since = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: since + 4_000)
    said.observe_progress(progress)
    assert values(said, PREPARING_SECONDS) == [pytest.approx(4_000, abs=60)]
    assert values(said, RUNNING) == []
    progress.take(EVENTS[0])
    said.observe_progress(progress)
    assert (values(said, PREPARING_SECONDS), values(said, RUNNING)) == ([0], [1])


def test_ranks_that_have_failed_before_training_started_prepare_no_more() -> None:
    said, progress = TrainMetrics(), Progress(Order(1, JOB, "causalLM", {}), ending=Ending(1, "no data"))
    said.observe_progress(progress)
    assert values(said, PREPARING_SECONDS) == [0]


def test_counters_of_a_job_begin_at_zero_so_that_what_its_first_step_counts_is_seen() -> None:
    said = TrainMetrics()
    said.observe(JOB, EVENTS[0])
    for name in (TOKENS, DATA_WAIT_SECONDS, SKIPPED_STEPS, CHECKPOINT_BLOCKED_SECONDS):
        assert values(said, name) == [0], name


def test_metrics_of_a_thousand_labels_are_no_series() -> None:
    said, of_labels = TrainMetrics(), {f"recall[{number}]": 0.5 for number in range(1_000)}
    said.observe(JOB, Evaluated(1, {"accuracy": 0.5, "accuracy/language=de": 0.4, **of_labels}, 1.0))
    assert values(said, EVALUATION) == [0.5]
    few = TrainMetrics()
    few.observe(JOB, Evaluated(1, {"accuracy": 0.5, "recall[spam]": 0.4}, 1.0))
    assert values(few, EVALUATION) == [0.5, 0.4]


def test_of_a_namespace_with_any_number_of_jobs() -> None:
    for kind in KINDS:
        metrics.expect([("series", kind)], now=0)
        metrics.QUEUED_SECONDS.labels("series", kind)
        for state in get_args(State):
            metrics.JOBS.labels("series", kind, state)
    series = [sample for family in REGISTRY.collect() for sample in family.samples]
    number = sum(sample.labels.get("namespace") == "series" for sample in series)
    assert re.search(rf"the operator has {number} for each namespace", README)
