"""The operator itself."""

from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from .panels import Query, curve, dashboard, figure

_OURS = " and on (job, instance) pretune_operator_queue_depth"
"""Narrows what every Python process exposes down to the operator's."""
_NONE = 'or on () label_replace(vector(0), "reason", "none", "", "")'


def operator() -> models.Dashboard:
    """Whether jobs are looked after, and at what cost."""
    return dashboard(
        "pretune-operator",
        "Pretune / Operator",
        "Whether the operator looks after jobs in time, and what that costs it and the API server.",
        [],
        {"Now": _now(), "Reconciles": _reconciles(), "Calls and resources": _cost()},
    )


def _now() -> list[Stat]:
    return [
        figure(
            "Operators",
            "Operators that Prometheus reaches: one, but for the moment of an upgrade.",
            units.NoUnit,
            "count(pretune_operator_queue_depth)",
        ),
        figure("Jobs", "Jobs that exist, finished ones included.", units.NoUnit, "sum(pretune_operator_jobs)"),
        figure(
            "Age of the last census",
            "Since what the operator knows was last compared with the whole cluster; it is, once a minute, or every "
            "five where there are thousands of jobs.",
            units.Seconds,
            "max(pretune_operator_census_age_seconds)",
            limits=(360, 600),
        ),
        figure(
            "Waiting for a reconcile",
            "Jobs whose turn has not come yet.",
            units.NoUnit,
            "sum(pretune_operator_queue_depth)",
            limits=(50, 500),
        ),
        figure(
            "Reconcile, 99th percentile",
            "Time that all but one in a hundred reconciles stay below, over 5 minutes.",
            units.Seconds,
            "histogram_quantile(0.99, sum by (le) (rate(pretune_operator_reconcile_seconds_bucket[5m])))",
            limits=(1, 5),
        ),
        figure(
            "Failed reconciles, last hour",
            "Reconciles that failed and are tried again. Some Conflicts are normal.",
            units.NoUnit,
            "sum(increase(pretune_operator_reconcile_errors_total[1h])) or vector(0)",
            limits=(20, 200),
        ),
    ]


def _reconciles() -> list[TimeSeries]:
    buckets = "sum by (le) (rate(pretune_operator_reconcile_seconds_bucket[$__rate_interval]))"
    return [
        curve(
            "Reconciles",
            "Reconciles per second.",
            units.OpsPerSecond,
            Query("sum(rate(pretune_operator_reconcile_seconds_count[$__rate_interval]))", "reconciles"),
        ),
        curve(
            "Reconcile time",
            "Time that a reconcile takes.",
            units.Seconds,
            Query(f"histogram_quantile(0.5, {buckets})", "median"),
            Query(f"histogram_quantile(0.99, {buckets})", "99th percentile"),
        ),
        curve(
            "Failed reconciles",
            "Reconciles per second that failed, by reason. Conflict: the job had changed meanwhile, which is normal.",
            units.OpsPerSecond,
            Query(
                f"sum by (reason) (rate(pretune_operator_reconcile_errors_total[$__rate_interval])) {_NONE}",
                "{{reason}}",
            ),
        ),
    ]


def _cost() -> list[TimeSeries]:
    return [
        curve(
            "Calls of the API server",
            "Calls per second beside watches, by verb and resource.",
            units.RequestsPerSecond,
            Query(
                "sum by (verb, resource) (rate(pretune_operator_api_calls_total[$__rate_interval]))",
                "{{verb}} {{resource}}",
            ),
        ),
        curve(
            "Answers of the API server",
            "Calls per second beside watches, by the code of the answer; 409 is a conflict, 429 asks for patience.",
            units.RequestsPerSecond,
            Query("sum by (code) (rate(pretune_operator_api_calls_total[$__rate_interval]))", "{{code}}"),
        ),
        curve(
            "Memory",
            "Resident memory of the operator's process.",
            units.BytesIEC,
            Query(f"process_resident_memory_bytes{_OURS}", "{{instance}}"),
        ),
        curve(
            "CPU",
            "Cores that the operator's process uses.",
            units.NoUnit,
            Query(f"rate(process_cpu_seconds_total[$__rate_interval]){_OURS}", "{{instance}}"),
        ),
    ]
