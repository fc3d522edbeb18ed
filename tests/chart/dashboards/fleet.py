"""The fleet: all jobs of the cluster, or of some namespaces."""

from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from .panels import Query, curve, dashboard, figure, variable

_HERE = '{namespace=~"$namespace",kind=~"$kind"}'
_JOB = "{{kind}} {{namespace}}/{{name}}"


def fleet() -> models.Dashboard:
    """How many jobs there are, what they wait for, what they use and what they lose."""
    return dashboard(
        "pretune-fleet",
        "Pretune / Fleet",
        "All jobs of the cluster: how many run, wait and fail, and how many GPUs they use.",
        [
            variable("namespace", "Namespace", "pretune_operator_jobs", "namespace"),
            variable("kind", "Kind", 'pretune_operator_jobs{namespace=~"$namespace"}', "kind"),
        ],
        {"Now": _now(), "Jobs": _jobs(), "Cost": _cost(), "Training": _training()},
    )


def _now() -> list[Stat]:
    return [
        figure(
            "Running",
            "Jobs whose driver runs: they prepare, train, evaluate or publish.",
            units.NoUnit,
            _in_state("Running"),
        ),
        figure("Queued", "Jobs that are waiting for quota.", units.NoUnit, _in_state("Queued")),
        figure(
            "Failed", "Jobs that have failed, will not be retried and still exist.", units.NoUnit, _in_state("Failed")
        ),
        figure(
            "GPUs in use",
            "GPUs held by attempts: average over the last 5 minutes, because the operator counts once a minute.",
            units.NoUnit,
            f"sum(rate(pretune_operator_gpu_seconds_total{_HERE}[5m]))",
        ),
        figure(
            "Failed attempts, last hour",
            "Attempts that failed in the last hour, with any cause. Most causes are retried.",
            units.NoUnit,
            f"sum(increase(pretune_operator_failed_attempts_total{_HERE}[1h]))",
            limits=(1, 5),
        ),
        figure(
            "Longest wait for quota",
            "Waiting time of the job that has been waiting longest for quota.",
            units.Seconds,
            f"max(pretune_operator_queued_seconds{_HERE})",
            limits=(3_600, 21_600),
        ),
    ]


def _in_state(state: str) -> str:
    return f'sum(pretune_operator_jobs{_HERE[:-1]},state="{state}"}})'


def _jobs() -> list[TimeSeries]:
    return [
        curve(
            "Jobs by state",
            "Jobs that exist, by state as in `kubectl get pretune`.",
            units.NoUnit,
            Query(f"sum by (state) (pretune_operator_jobs{_HERE})", "{{state}}"),
            stacked=True,
        ),
        curve(
            "Queue",
            "Jobs that are waiting for quota, by namespace.",
            units.NoUnit,
            Query(f'sum by (namespace) (pretune_operator_jobs{_HERE[:-1]},state="Queued"}})', "{{namespace}}"),
            stacked=True,
        ),
        curve(
            "Failed attempts by cause",
            "Attempts that failed in the preceding hour, by cause. README.md says which causes are retried.",
            units.NoUnit,
            Query(f"sum by (cause) (increase(pretune_operator_failed_attempts_total{_HERE}[1h]))", "{{cause}}"),
            stacked=True,
        ),
        curve(
            "Preflights by result",
            "Preflights that ended in the preceding hour. Failed: found an error before the job used any GPU. "
            "Inconclusive: could not run or finish, and the job proceeded.",
            units.NoUnit,
            Query(f"sum by (result) (increase(pretune_operator_preflights_total{_HERE}[1h]))", "{{result}}"),
            stacked=True,
        ),
    ]


def _cost() -> list[TimeSeries]:
    return [
        curve(
            "GPUs in use by namespace",
            "GPUs held by attempts: average over 5 minutes, because the operator counts once a minute.",
            units.NoUnit,
            Query(f"sum by (namespace) (rate(pretune_operator_gpu_seconds_total{_HERE}[5m]))", "{{namespace}}"),
            stacked=True,
        ),
        curve(
            "GPU-hours",
            "GPU-hours held by attempts, by namespace. Each point is the sum over a window as long as the dashboard's "
            "time range; the last point is the total of the range itself.",
            units.Hours,
            Query(
                f"sum by (namespace) (increase(pretune_operator_gpu_seconds_total{_HERE}[$__range])) / 3600",
                "{{namespace}}",
            ),
        ),
        curve(
            "Lost steps",
            "Steps that had to be repeated in the preceding hour, because a run was lost after its last checkpoint.",
            units.NoUnit,
            Query(f"sum by (namespace) (increase(pretune_operator_lost_steps_total{_HERE}[1h]))", "{{namespace}}"),
        ),
    ]


def _training() -> list[TimeSeries]:
    return [
        curve(
            "Throughput",
            "Tokens trained on per second, by job. A job that is stalled has none.",
            units.Short,
            Query(f"sum by (namespace, kind, name) (rate(pretune_train_tokens_total{_HERE}[$__rate_interval]))", _JOB),
            stacked=True,
        ),
        curve(
            "Goodput",
            "Share of the current attempt's time that was spent on new steps, by job.",
            units.PercentUnit,
            Query(f"max by (namespace, kind, name) (pretune_train_goodput{_HERE})", _JOB),
            limits=(0.8, 0.5),
        ),
        curve(
            "Progress",
            "Share of the planned steps that are done, by job.",
            units.PercentUnit,
            Query(
                f"max by (namespace, kind, name) (pretune_train_step{_HERE})"
                f" / max by (namespace, kind, name) (pretune_train_steps_planned{_HERE})",
                _JOB,
            ),
        ),
    ]
