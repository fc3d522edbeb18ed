"""What the operator measures of itself and of its jobs: names and labels, in one place, and how status becomes values.

Series are bounded by namespaces, kinds, states and causes, never by jobs.
"""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from pretune_api.names import Cause
from pretune_api.status import Status

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_OF_JOBS: Final = ("namespace", "kind")

RECONCILE_SECONDS: Final = Histogram(
    "pretune_operator_reconcile_seconds", "Time that a reconcile of one job takes.", buckets=_SECONDS
)
RECONCILE_ERRORS: Final = Counter(
    "pretune_operator_reconcile_errors", "Reconciles that failed and are tried again, by reason.", ["reason"]
)
API_CALLS: Final = Counter(
    "pretune_operator_api_calls", "Calls of the Kubernetes API beside watches.", ["verb", "resource", "code"]
)
QUEUE_DEPTH: Final = Gauge("pretune_operator_queue_depth", "Jobs that wait for a reconcile.")
CENSUS_AGE: Final = Gauge(
    "pretune_operator_census_age_seconds", "Seconds since what is known was last compared with the whole cluster."
)
JOBS: Final = Gauge("pretune_operator_jobs", "Jobs that exist.", [*_OF_JOBS, "state"])
QUEUED_SECONDS: Final = Gauge(
    "pretune_operator_queued_seconds", "Seconds that the job which has waited longest for quota waits.", _OF_JOBS
)
ATTEMPTS: Final = Counter("pretune_operator_attempts", "Attempts made.", _OF_JOBS)
FAILED_ATTEMPTS: Final = Counter(
    "pretune_operator_failed_attempts", "Attempts that failed, by cause.", [*_OF_JOBS, "cause"]
)
GPU_SECONDS: Final = Counter("pretune_operator_gpu_seconds", "GPU time that attempts have held.", _OF_JOBS)
LOST_STEPS: Final = Counter(
    "pretune_operator_lost_steps", "Steps that had to be done again, as far as they were seen.", _OF_JOBS
)


def expect(namespace: str, kind: str) -> None:
    """Begin all counters of these jobs at 0: Prometheus does not see the increase of one that begins at 1."""
    for counter in (ATTEMPTS, GPU_SECONDS, LOST_STEPS):
        counter.labels(namespace, kind)
    for cause in Cause:
        FAILED_ATTEMPTS.labels(namespace, kind, cause)


def observe(namespace: str, kind: str, before: Status, after: Status) -> None:
    """Take in that the status of a job has become another."""
    ATTEMPTS.labels(namespace, kind).inc(after.attempt_count - before.attempt_count)
    GPU_SECONDS.labels(namespace, kind).inc(after.gpu_seconds - before.gpu_seconds)
    LOST_STEPS.labels(namespace, kind).inc(_lost_steps(before, after))
    known = {attempt.number for attempt in before.attempts if attempt.cause}
    for attempt in after.attempts:
        if attempt.cause and attempt.number not in known:
            FAILED_ATTEMPTS.labels(namespace, kind, attempt.cause).inc()


def _lost_steps(before: Status, after: Status) -> int:
    """How far progress fell back: what was done since it was last read, before and after the loss, is not known."""
    if before.progress is None or after.progress is None:
        return 0
    return max(0, before.progress.step - after.progress.step)
