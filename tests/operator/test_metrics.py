"""What the operator tells Prometheus of its jobs."""

from datetime import UTC, datetime

import pytest
from prometheus_client import REGISTRY

from pretune_api.names import Cause
from pretune_api.status import Attempt, Progress, Status
from pretune_operator import metrics


@pytest.fixture
def team(request: pytest.FixtureRequest) -> str:
    """A namespace that nobody else counts in."""
    return request.node.name


def value(name: str, namespace: str, **labels: str) -> float | None:
    place = {"namespace": namespace, "kind": "PretrainJob", **labels}
    return REGISTRY.get_sample_value(f"pretune_operator_{name}_total", place)


def attempt(number: int, cause: Cause | None = None) -> Attempt:
    ended = datetime(2026, 11, 21, tzinfo=UTC) if cause else None
    return Attempt(number=number, ray_job=f"ptj-{number}", cause=cause, completion_time=ended)


def at_step(step: int) -> Progress:
    return Progress(step=step, total=1_000, percent=step // 10)


def test_counters_begin_at_zero_with_the_first_job_of_a_namespace(team: str) -> None:
    metrics.expect(team, "PretrainJob")
    assert [value(name, team) for name in ("attempts", "gpu_seconds", "lost_steps")] == [0, 0, 0]
    assert {value("failed_attempts", team, cause=cause) for cause in Cause} == {0}


def test_each_attempt_and_each_failure_is_counted_once(team: str) -> None:
    first = Status(attempt_count=1, attempts=[attempt(1)], gpu_seconds=60)
    failed = Status(attempt_count=1, attempts=[attempt(1, Cause.NODE_LOST)], gpu_seconds=120)
    second = Status(attempt_count=2, attempts=[attempt(1, Cause.NODE_LOST), attempt(2)], gpu_seconds=180)
    for before, after in ((Status(), first), (first, failed), (failed, second), (second, second)):
        metrics.observe(team, "PretrainJob", before, after)
    assert value("attempts", team) == 2
    assert value("failed_attempts", team, cause="NodeLost") == 1
    assert value("gpu_seconds", team) == 180


def test_steps_are_lost_when_progress_falls_back(team: str) -> None:
    for before, after in ((100, 180), (180, 150), (150, 200)):
        metrics.observe(team, "PretrainJob", Status(progress=at_step(before)), Status(progress=at_step(after)))
    assert value("lost_steps", team) == 30
