"""The operator itself."""

from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from .panels import Query, curve, dashboard, figure

_OURS = " and on (job, instance) pretune_operator_queue_depth"
"""Narrows what every Python process exposes down to the operator's."""
_SCRAPED = "30s"
"""Interval of the chart's ServiceMonitor, twice that of jobs."""
_NONE = 'or on () label_replace(vector(0), "reason", "none", "", "")'


def operator() -> models.Dashboard:
    """Whether the operator keeps up with the jobs, and at what cost."""
    return dashboard(
        "pretune-operator",
        "Pretune / Operator",
        "Whether the operator keeps up with the jobs, and its load on the API server.",
        [],
        {"Now": _now(), "Reconciles": _reconciles(), "Calls and resources": _cost()},
    )


def _now() -> list[Stat]:
    return [
        figure(
            "Operators",
            "Operators that Prometheus can scrape: one for each release of the chart.",
            units.NoUnit,
            "count(pretune_operator_queue_depth)",
        ),
        figure("Jobs", "Jobs that exist, including finished ones.", units.NoUnit, "sum(pretune_operator_jobs)"),
        figure(
            "Age of the last census",
            "Time since the operator's cache was last compared with the whole cluster. That happens once a minute, or "
            "every five minutes if there are thousands of jobs.",
            units.Seconds,
            "max(pretune_operator_census_age_seconds)",
            limits=(360, 600),
        ),
        figure(
            "Waiting for a reconcile",
            "Jobs waiting for a reconcile.",
            units.NoUnit,
            "sum(pretune_operator_queue_depth)",
            limits=(50, 500),
        ),
        figure(
            "Reconcile, 99th percentile",
            "Duration of a reconcile: 99th percentile over the last 5 minutes.",
            units.Seconds,
            "histogram_quantile(0.99, sum by (le) (rate(pretune_operator_reconcile_seconds_bucket[5m])))",
            limits=(1, 5),
        ),
        figure(
            "Failed reconciles, last hour",
            "Reconciles that failed and are retried. Some with the reason Conflict are normal.",
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
            Query("sum(rate(pretune_operator_reconcile_seconds_count[$__rate_interval]))", "reconciles", _SCRAPED),
        ),
        curve(
            "Reconcile time",
            "Duration of a reconcile: median and 99th percentile.",
            units.Seconds,
            Query(f"histogram_quantile(0.5, {buckets})", "median", _SCRAPED),
            Query(f"histogram_quantile(0.99, {buckets})", "99th percentile", _SCRAPED),
        ),
        curve(
            "Failed reconciles",
            "Failed reconciles per second, by reason. Conflict: the job had changed meanwhile, which is normal.",
            units.OpsPerSecond,
            Query(
                f"sum by (reason) (rate(pretune_operator_reconcile_errors_total[$__rate_interval])) {_NONE}",
                "{{reason}}",
                _SCRAPED,
            ),
        ),
    ]


def _cost() -> list[TimeSeries]:
    return [
        curve(
            "Calls to the API server",
            "Calls per second except watches, by verb and resource.",
            units.RequestsPerSecond,
            Query(
                "sum by (verb, resource) (rate(pretune_operator_api_calls_total[$__rate_interval]))",
                "{{verb}} {{resource}}",
                _SCRAPED,
            ),
        ),
        curve(
            "Responses of the API server",
            "Calls per second except watches, by status code. 409: conflict. 429: throttled by the API server.",
            units.RequestsPerSecond,
            Query("sum by (code) (rate(pretune_operator_api_calls_total[$__rate_interval]))", "{{code}}", _SCRAPED),
        ),
        curve(
            "Memory",
            "Resident memory of the operator process.",
            units.BytesIEC,
            Query(f"process_resident_memory_bytes{_OURS}", "{{instance}}", _SCRAPED),
        ),
        curve(
            "CPU",
            "CPU cores used by the operator process.",
            units.NoUnit,
            Query(f"rate(process_cpu_seconds_total[$__rate_interval]){_OURS}", "{{instance}}", _SCRAPED),
        ),
    ]
