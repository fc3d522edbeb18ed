"""What the operator measures of itself and of its jobs: names and labels, in one place, and how status becomes values.

Series are bounded by namespaces, kinds, states, causes and results, never by jobs.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from pretune_api.names import Cause
from pretune_api.status import Status
from pretune_operator.conditions import ConditionType, Reason, condition, is_checking, reason

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_MINUTES: Final = (5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1200.0)
_OF_JOBS: Final = ("namespace", "kind")

RECONCILE_SECONDS: Final = Histogram(
    "pretune_operator_reconcile_seconds", "Time to reconcile one job, in seconds.", buckets=_SECONDS
)
RECONCILE_ERRORS: Final = Counter(
    "pretune_operator_reconcile_errors", "Reconciles that failed and are retried, by reason.", ["reason"]
)
API_CALLS: Final = Counter(
    "pretune_operator_api_calls", "Kubernetes API calls other than watches.", ["verb", "resource", "code"]
)
QUEUE_DEPTH: Final = Gauge("pretune_operator_queue_depth", "Jobs waiting to be reconciled.")
CENSUS_AGE: Final = Gauge(
    "pretune_operator_census_age_seconds", "Seconds since the cache was last compared with the whole cluster."
)
JOBS: Final = Gauge("pretune_operator_jobs", "Jobs, by state.", [*_OF_JOBS, "state"])
QUEUED_SECONDS: Final = Gauge(
    "pretune_operator_queued_seconds", "Seconds that the longest waiting job has waited for quota.", _OF_JOBS
)
ATTEMPTS: Final = Counter("pretune_operator_attempts", "Attempts created.", _OF_JOBS)
FAILED_ATTEMPTS: Final = Counter(
    "pretune_operator_failed_attempts", "Attempts that failed, by cause.", [*_OF_JOBS, "cause"]
)
GPU_SECONDS: Final = Counter("pretune_operator_gpu_seconds", "GPU seconds held by attempts.", _OF_JOBS)
LOST_STEPS: Final = Counter(
    "pretune_operator_lost_steps", "Steps that had to be repeated, as far as they were observed.", _OF_JOBS
)
PREFLIGHTS: Final = Counter(
    "pretune_operator_preflights", "Preflights that have ended, by result.", [*_OF_JOBS, "result"]
)
PREFLIGHT_SECONDS: Final = Histogram(
    "pretune_operator_preflight_seconds", "Time that a job waits for its preflight, in seconds.", buckets=_MINUTES
)

_RESULTS: Final[dict[str | None, str]] = {
    Reason.PASSED: "Passed",
    Reason.INCONCLUSIVE: "Inconclusive",
    Cause.USER_ERROR: "Failed",
    Cause.STORAGE_DENIED: "Failed",
}
"""Results of preflights, by the reason of PreflightPassed; one that was stopped has none."""

KEPT_SECONDS: Final = 3_600.0
"""Time that counters outlast the last job of a namespace: by then their last values have been scraped."""
_of_jobs_at: dict[tuple[str, str], float] = {}
"""When there last were jobs, by namespace and kind."""


def expect(places: Collection[tuple[str, str]], now: float) -> None:
    """Jobs exist in these namespaces, and are of these kinds; the counters of those that are long gone end.

    `now` is in seconds.
    """
    for place in places:
        _begin(*place)
        _of_jobs_at[place] = now
    for place in [place for place, at in _of_jobs_at.items() if now - at > KEPT_SECONDS]:
        del _of_jobs_at[place]
        for counter in (ATTEMPTS, GPU_SECONDS, LOST_STEPS, FAILED_ATTEMPTS, PREFLIGHTS):
            counter.remove_by_labels(dict(zip(_OF_JOBS, place, strict=True)))


def _begin(namespace: str, kind: str) -> None:
    """Begin all counters of these jobs at 0: Prometheus does not see the increase of one that begins at 1."""
    for counter in (ATTEMPTS, GPU_SECONDS, LOST_STEPS):
        counter.labels(namespace, kind)
    for cause in Cause:
        FAILED_ATTEMPTS.labels(namespace, kind, cause)
    for result in _RESULTS.values():
        PREFLIGHTS.labels(namespace, kind, result)


def observe(namespace: str, kind: str, before: Status, after: Status) -> None:
    """Take in that the status of a job has become another."""
    ATTEMPTS.labels(namespace, kind).inc(after.attempt_count - before.attempt_count)
    GPU_SECONDS.labels(namespace, kind).inc(after.gpu_seconds - before.gpu_seconds)
    LOST_STEPS.labels(namespace, kind).inc(_lost_steps(before, after))
    known = {attempt.number for attempt in before.attempts if attempt.cause}
    for attempt in after.attempts:
        if attempt.cause and attempt.number not in known:
            FAILED_ATTEMPTS.labels(namespace, kind, attempt.cause).inc()
    _observe_preflight(namespace, kind, before, after)


def _observe_preflight(namespace: str, kind: str, before: Status, after: Status) -> None:
    said = reason(after, ConditionType.PREFLIGHT_PASSED)
    known = said == reason(before, ConditionType.PREFLIGHT_PASSED) and after.preflight_count == before.preflight_count
    result = _RESULTS.get(said)
    if result is not None and not known:
        PREFLIGHTS.labels(namespace, kind, result).inc()
        PREFLIGHT_SECONDS.observe(_seconds_of_preflight(before))


def _seconds_of_preflight(before: Status) -> float:
    """How long the job waited; not at all where its preflight was refused."""
    begun = condition(before, ConditionType.PREFLIGHT_PASSED)
    if begun is None or not is_checking(before):
        return 0.0
    return (datetime.now(UTC) - begun.last_transition_time).total_seconds()


def _lost_steps(before: Status, after: Status) -> int:
    """How far progress fell back: what was done since it was last read, before and after the loss, is not known."""
    if before.progress is None or after.progress is None:
        return 0
    return max(0, before.progress.step - after.progress.step)
