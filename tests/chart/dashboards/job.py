"""One job: what it learns, how fast, and what holds it up."""

from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from .panels import Query, curve, dashboard, figure, marks, variable

_OF = "namespace, kind, name"


def job() -> models.Dashboard:
    """The curves of one job over all its attempts, whose beginnings are marked."""
    return dashboard(
        "pretune-job",
        "Pretune / Job",
        "One job: its loss and figures, its speed, its checkpoints, its ranks. A mark says that a run begins.",
        [
            variable("namespace", "Namespace", "pretune_train_step", "namespace", several=False),
            variable("kind", "Kind", 'pretune_train_step{namespace="$namespace"}', "kind", several=False),
            variable("job", "Job", 'pretune_train_step{namespace="$namespace",kind="$kind"}', "name", several=False),
        ],
        {"Now": _now(), "Learning": _learning(), "Speed": _speed(), "Safety": _safety(), "Ranks": _ranks()},
        [marks("Runs", f"time() - {_now_of('run_start_time_seconds')} < 60")],
    )


def _series(metric: str) -> str:
    return f'pretune_train_{metric}{{namespace="$namespace",kind="$kind",name="$job"}}'


def _now_of(metric: str) -> str:
    """A gauge, whichever attempt's pod says it."""
    return f"max by ({_OF}) ({_series(metric)})"


def _rate_of(metric: str, by: str = _OF) -> str:
    return f"sum by ({by}) (rate({_series(metric)}[$__rate_interval]))"


def _now() -> list[Stat]:
    return [
        figure(
            "Progress",
            "Share of the planned steps that is done.",
            units.PercentUnit,
            f"{_now_of('step')} / {_now_of('steps_planned')}",
        ),
        figure(
            "Time left",
            "Until the last step, at the speed of the last 5 minutes.",
            units.DurationSeconds,
            f"({_now_of('steps_planned')} - {_now_of('step')})"
            f" / sum by ({_OF}) (rate({_series('step_seconds_count')}[5m]))",
        ),
        figure("Loss", "Mean training loss of the last step's targets, in nats.", units.NoUnit, _now_of("loss")),
        figure("Throughput", "Tokens trained on per second.", units.Short, _now_of("tokens_per_second")),
        figure(
            "Goodput",
            "Share of this attempt's time that went into steps never done before.",
            units.PercentUnit,
            _now_of("goodput"),
            limits=(0.8, 0.5),
        ),
        figure(
            "At risk",
            "Steps that would have to be done again if the run were lost now.",
            units.NoUnit,
            _now_of("uncommitted_steps"),
        ),
    ]


def _learning() -> list[TimeSeries]:
    return [
        curve(
            "Loss", "Mean training loss of each step's targets, in nats.", units.NoUnit, Query(_now_of("loss"), "loss")
        ),
        curve(
            "Evaluation",
            "Figures of the last evaluation on the validation data.",
            units.NoUnit,
            Query(f"max by (metric) ({_series('evaluation')})", "{{metric}}"),
        ),
        curve(
            "Gradient norm",
            "Norm of the whole gradient, before clipping; it often rises before the loss does.",
            units.NoUnit,
            Query(_now_of("grad_norm"), "norm"),
        ),
        curve(
            "Learning rate", "Learning rate of the last step.", units.NoUnit, Query(_now_of("learning_rate"), "rate")
        ),
        curve(
            "Steps",
            "Steps done, and planned. It falls where a lost run starts again from its last checkpoint.",
            units.NoUnit,
            Query(_now_of("step"), "done"),
            Query(_now_of("steps_planned"), "planned"),
        ),
        curve(
            "Skipped steps",
            "Updates per minute that were left out because loss or gradient were not finite, or leapt.",
            units.NoUnit,
            Query(f"60 * {_rate_of('skipped_steps_total')}", "skipped"),
            limits=(0.1, 1),
        ),
    ]


def _speed() -> list[TimeSeries]:
    return [
        curve(
            "Throughput",
            "Tokens trained on per second, over all ranks.",
            units.Short,
            Query(_rate_of("tokens_total"), "tokens/s"),
        ),
        curve(
            "Step time",
            "Wall time of a step: the half and the twentieth part that take longest begin here.",
            units.Seconds,
            Query(f"histogram_quantile(0.5, {_rate_of('step_seconds_bucket', 'le')})", "median"),
            Query(f"histogram_quantile(0.95, {_rate_of('step_seconds_bucket', 'le')})", "95th percentile"),
        ),
        curve(
            "Model FLOPs utilization",
            "Share of the devices' peak arithmetic that training uses; empty where the peak is not known, as on CPUs.",
            units.PercentUnit,
            Query(_now_of("mfu"), "MFU"),
            limits=(0.3, 0.15),
        ),
        curve(
            "Data wait",
            "Share of the time that steps wait for data.",
            units.PercentUnit,
            Query(f"{_rate_of('data_wait_seconds_total')} / {_rate_of('step_seconds_sum')}", "waiting"),
            limits=(0.05, 0.2),
        ),
        curve(
            "Goodput",
            "Share of the attempt's time that went into steps never done before: the rest is start, evaluation, "
            "checkpoints, and steps done again.",
            units.PercentUnit,
            Query(_now_of("goodput"), "goodput"),
            limits=(0.8, 0.5),
        ),
        curve(
            "Memory",
            "Most that a rank has used: of its device, or of its process where that is the CPU.",
            units.BytesIEC,
            Query(_now_of("memory_bytes"), "peak"),
        ),
    ]


def _safety() -> list[TimeSeries]:
    return [
        curve(
            "Steps at risk",
            "Steps since the last commit, beside the interval between checkpoints.",
            units.NoUnit,
            Query(_now_of("uncommitted_steps"), "since the commit"),
            Query(_now_of("checkpoint_interval_steps"), "interval"),
        ),
        curve(
            "Age of the last checkpoint",
            "Time since the last commit of this attempt.",
            units.Seconds,
            Query(_now_of("checkpoint_age_seconds"), "age"),
        ),
        curve(
            "Checkpoint time",
            "From a checkpoint's beginning to its commit, in the background; on average of this attempt.",
            units.Seconds,
            Query(f"{_now_of('checkpoint_seconds_sum')} / {_now_of('checkpoint_seconds_count')}", "to the commit"),
        ),
        curve(
            "Standing still",
            "Share of the time that training stands still for checkpoints.",
            units.PercentUnit,
            Query(_rate_of("checkpoint_blocked_seconds_total"), "standing still"),
            limits=(0.01, 0.05),
        ),
    ]


def _ranks() -> list[TimeSeries]:
    return [
        curve(
            "Spread",
            "Time that the slowest and the fastest rank take to make their batches of a step. Far apart: a straggler.",
            units.Seconds,
            Query(f"max by (rank) ({_series('rank_batch_seconds')})", "{{rank}}"),
        ),
        curve(
            "Slowest rank",
            "Which rank takes longest to make its batches. One that stays is a straggler; chance alone draws a new one "
            "at each step.",
            units.NoUnit,
            Query(_now_of("slowest_rank"), "rank"),
        ),
        curve(
            "Runs",
            "Starts of the group of ranks in this attempt: one more for each worker that was lost and replaced.",
            units.NoUnit,
            Query(_now_of("runs_total"), "runs"),
        ),
    ]
