"""What the operator tells Prometheus of its jobs."""

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from pretune_api.names import Cause
from pretune_api.status import Attempt, Condition, Progress, Status
from pretune_operator import metrics
from support.scene import Scene, trains


@pytest.fixture
def team(request: pytest.FixtureRequest) -> str:
    """A namespace that nobody else counts in."""
    name: str = request.node.name
    return name


def value(name: str, namespace: str, **labels: str) -> float | None:
    place = {"namespace": namespace, "kind": "PretrainJob", **labels}
    return REGISTRY.get_sample_value(f"pretune_operator_{name}_total", place)


def attempt(number: int, cause: Cause | None = None) -> Attempt:
    ended = datetime(2026, 11, 21, tzinfo=UTC) if cause else None
    return Attempt(number=number, ray_job=f"ptj-{number}", cause=cause, completion_time=ended)


def preflight(reason: str, number: int = 1, seconds_ago: float = 0) -> Status:
    """What status says once preflight `number` is there, and of what came of it."""
    at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    word = {"Passed": "True", "UserError": "False", "Skipped": "False"}.get(reason, "Unknown")
    said = {"type": "PreflightPassed", "status": word, "reason": reason, "message": "", "last_transition_time": at}
    return Status(preflight_count=number, conditions=[Condition.model_validate(said)])


def waited() -> tuple[float, float]:
    """How many preflights were waited for, and for how many seconds together."""
    found = [REGISTRY.get_sample_value(f"pretune_operator_preflight_seconds_{name}") for name in ("count", "sum")]
    return found[0] or 0.0, found[1] or 0.0


def at_step(step: int) -> Progress:
    return Progress(step=step, total=1_000, percent=step // 10)


def counters(namespace: str) -> int:
    """How many counters there are of a namespace."""
    samples = (sample for family in REGISTRY.collect() for sample in family.samples if sample.name.endswith("_total"))
    return sum(sample.labels.get("namespace") == namespace for sample in samples)


def test_counters_begin_at_zero_with_the_first_job_of_a_namespace(team: str) -> None:
    metrics.expect([(team, "PretrainJob")], now=0)
    assert [value(name, team) for name in ("attempts", "gpu_seconds", "lost_steps")] == [0, 0, 0]
    assert {value("failed_attempts", team, cause=cause) for cause in Cause} == {0}
    assert {value("preflights", team, result=result) for result in ("Passed", "Failed", "Inconclusive")} == {0}


def test_counters_of_a_namespace_without_jobs_end_once_their_last_values_were_scraped(team: str) -> None:
    metrics.expect([(team, "PretrainJob"), (team, "FinetuneJob")], now=0)
    metrics.expect([(team, "FinetuneJob")], now=metrics.KEPT_SECONDS)
    both = counters(team)
    metrics.expect([(team, "FinetuneJob")], now=metrics.KEPT_SECONDS + 1)
    assert value("attempts", team) is None
    assert counters(team) == both / 2 > 0


def test_each_attempt_and_each_failure_is_counted_once(team: str) -> None:
    first = Status(attempt_count=1, attempts=[attempt(1)], gpu_seconds=60)
    failed = Status(attempt_count=1, attempts=[attempt(1, Cause.NODE_LOST)], gpu_seconds=120)
    second = Status(attempt_count=2, attempts=[attempt(1, Cause.NODE_LOST), attempt(2)], gpu_seconds=180)
    for before, after in ((Status(), first), (first, failed), (failed, second), (second, second)):
        metrics.observe(team, "PretrainJob", before, after)
    assert value("attempts", team) == 2
    assert value("failed_attempts", team, cause="NodeLost") == 1
    assert value("gpu_seconds", team) == 180


def test_gpus_of_a_job_that_makes_no_progress_are_counted_every_minute(team: str) -> None:
    scene = trains(Scene())
    counted = []
    for _ in range(3):
        before = scene.status
        assert scene.again is not None, "the operator looks again, though nothing happens"
        scene.after(scene.again.total_seconds()).settle()
        metrics.observe(team, "PretrainJob", before, scene.status)
        counted.append(value("gpu_seconds", team))
    assert counted == [60, 120, 180]


def test_steps_are_lost_when_progress_falls_back(team: str) -> None:
    for before, after in ((100, 180), (180, 150), (150, 200)):
        metrics.observe(team, "PretrainJob", Status(progress=at_step(before)), Status(progress=at_step(after)))
    assert value("lost_steps", team) == 30


@pytest.mark.parametrize(
    ("reason", "result"), [("Passed", "Passed"), ("UserError", "Failed"), ("Inconclusive", "Inconclusive")]
)
def test_a_preflight_is_counted_once_by_its_result_with_the_time_that_was_waited(
    team: str, reason: str, result: str
) -> None:
    count, seconds = waited()
    checking, ended = preflight("Checking", seconds_ago=30), preflight(reason)
    for before, after in ((Status(), checking), (checking, checking), (checking, ended), (ended, ended)):
        metrics.observe(team, "PretrainJob", before, after)
    assert value("preflights", team, result=result) == 1
    assert waited()[0] == count + 1
    assert waited()[1] == pytest.approx(seconds + 30, abs=10)


def test_a_preflight_that_was_refused_at_once_is_counted_also_after_another(team: str) -> None:
    for before, after in ((0, 1), (1, 2)):
        metrics.observe(team, "PretrainJob", preflight("Inconclusive", before), preflight("Inconclusive", after))
    assert value("preflights", team, result="Inconclusive") == 2


def test_a_preflight_that_was_stopped_has_no_result(team: str) -> None:
    metrics.expect([(team, "PretrainJob")], now=0)
    metrics.observe(team, "PretrainJob", preflight("Checking"), preflight("Skipped"))
    assert {value("preflights", team, result=result) for result in ("Passed", "Failed", "Inconclusive")} == {0}
