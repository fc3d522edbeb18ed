"""The fleet: all jobs of the cluster, or of some namespaces."""

from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from .panels import Query, curve, dashboard, figure, variable

_HERE = '{namespace=~"$namespace",kind=~"$kind"}'
_JOB = "{{kind}} {{namespace}}/{{name}}"


def fleet() -> models.Dashboard:
    """How many jobs there are, what they hold, what is lost, what waits."""
    return dashboard(
        "pretune-fleet",
        "Pretune / Fleet",
        "All jobs of the cluster: what runs, what waits, what fails, and what it costs.",
        [
            variable("namespace", "Namespace", "pretune_operator_jobs", "namespace"),
            variable("kind", "Kind", 'pretune_operator_jobs{namespace=~"$namespace"}', "kind"),
        ],
        {"Now": _now(), "Jobs": _jobs(), "Cost": _cost(), "Training": _training()},
    )


def _now() -> list[Stat]:
    return [
        figure("Running", "Jobs that train.", units.NoUnit, _in_state("Running")),
        figure("Queued", "Jobs that wait for quota.", units.NoUnit, _in_state("Queued")),
        figure("Failed", "Jobs that have failed for good and still exist.", units.NoUnit, _in_state("Failed")),
        figure(
            "GPUs in use",
            "GPUs that attempts hold, over the last 5 minutes: the operator counts once a minute.",
            units.NoUnit,
            f"sum(rate(pretune_operator_gpu_seconds_total{_HERE}[5m]))",
        ),
        figure(
            "Failed attempts, last hour",
            "Attempts that failed in the last hour, whatever the cause; most are tried again.",
            units.NoUnit,
            f"sum(increase(pretune_operator_failed_attempts_total{_HERE}[1h]))",
            limits=(1, 5),
        ),
        figure(
            "Longest wait for quota",
            "How long the job that has waited longest for quota waits.",
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
            "Jobs that exist, by the state that `kubectl get pretune` shows.",
            units.NoUnit,
            Query(f"sum by (state) (pretune_operator_jobs{_HERE})", "{{state}}"),
            stacked=True,
        ),
        curve(
            "Queue",
            "Jobs that wait for quota, by namespace.",
            units.NoUnit,
            Query(f'sum by (namespace) (pretune_operator_jobs{_HERE[:-1]},state="Queued"}})', "{{namespace}}"),
            stacked=True,
        ),
        curve(
            "Failed attempts by cause",
            "Attempts that failed in the hour before, by cause. README.md says which causes are tried again.",
            units.NoUnit,
            Query(f"sum by (cause) (increase(pretune_operator_failed_attempts_total{_HERE}[1h]))", "{{cause}}"),
            stacked=True,
        ),
        curve(
            "Preflights by result",
            "Preflights that came to an end in the hour before. Failed: a mistake, found before machines were taken."
            " Inconclusive: it broke, was refused, or took too long, and the job went on.",
            units.NoUnit,
            Query(f"sum by (result) (increase(pretune_operator_preflights_total{_HERE}[1h]))", "{{result}}"),
            stacked=True,
        ),
    ]


def _cost() -> list[TimeSeries]:
    return [
        curve(
            "GPUs in use by namespace",
            "GPUs that attempts hold, over 5 minutes: the operator counts once a minute.",
            units.NoUnit,
            Query(f"sum by (namespace) (rate(pretune_operator_gpu_seconds_total{_HERE}[5m]))", "{{namespace}}"),
            stacked=True,
        ),
        curve(
            "GPU-hours",
            "GPU-hours that attempts have held, by namespace: in as long a time as the range shown, up to each moment. "
            "The last value is that of the range itself.",
            units.Hours,
            Query(
                f"sum by (namespace) (increase(pretune_operator_gpu_seconds_total{_HERE}[$__range])) / 3600",
                "{{namespace}}",
            ),
        ),
        curve(
            "Lost steps",
            "Steps that had to be done again in the hour before, because a run was lost after its last checkpoint.",
            units.NoUnit,
            Query(f"sum by (namespace) (increase(pretune_operator_lost_steps_total{_HERE}[1h]))", "{{namespace}}"),
        ),
    ]


def _training() -> list[TimeSeries]:
    return [
        curve(
            "Throughput",
            "Tokens trained on per second, by job.",
            units.Short,
            Query(f"sum by (namespace, kind, name) (pretune_train_tokens_per_second{_HERE})", _JOB),
            stacked=True,
        ),
        curve(
            "Goodput",
            "Share of the time of an attempt that went into steps never done before, by job.",
            units.PercentUnit,
            Query(f"max by (namespace, kind, name) (pretune_train_goodput{_HERE})", _JOB),
            limits=(0.8, 0.5),
        ),
        curve(
            "Progress",
            "Share of the planned steps that is done, by job.",
            units.PercentUnit,
            Query(
                f"max by (namespace, kind, name) (pretune_train_step{_HERE})"
                f" / max by (namespace, kind, name) (pretune_train_steps_planned{_HERE})",
                _JOB,
            ),
        ),
    ]
