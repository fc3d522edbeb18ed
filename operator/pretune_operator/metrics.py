"""What the operator measures of itself: names and labels, in one place."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

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
JOBS: Final = Gauge("pretune_operator_jobs", "Jobs that exist, by state and kind.", ["state", "kind"])
