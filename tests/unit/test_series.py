"""How many series Prometheus has to keep is bounded, and README says by what."""

import re
from pathlib import Path
from typing import get_args

from prometheus_client import REGISTRY

from pretune_api.problems import KINDS
from pretune_api.status import State
from pretune_operator import metrics
from pretune_trainer.drive.progress import Progress
from pretune_trainer.drive.prometheus import TrainMetrics
from pretune_trainer.drive.wire import Order
from pretune_trainer.report import Committed, Start, Step

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


def test_of_a_namespace_with_any_number_of_jobs() -> None:
    for kind in KINDS:
        metrics.expect([("series", kind)], now=0)
        metrics.QUEUED_SECONDS.labels("series", kind)
        for state in get_args(State):
            metrics.JOBS.labels("series", kind, state)
    series = [sample for family in REGISTRY.collect() for sample in family.samples]
    number = sum(sample.labels.get("namespace") == "series" for sample in series)
    assert re.search(rf"the operator has {number} for each namespace", README)
