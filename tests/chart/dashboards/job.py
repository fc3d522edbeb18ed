"""One job: its metrics, its speed, and what slows it down."""

from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from .panels import Query, curve, dashboard, figure, marks, variable

_OF = "namespace, kind, name"
_MARKED_SECONDS = 90
"""Grafana looks for marks every 60 s, and a run that has started is seen at the next scrape only."""


def job() -> models.Dashboard:
    """The curves of one job over all its attempts; the start of each run is marked."""
    return dashboard(
        "pretune-job",
        "Pretune / Job",
        "One job: loss, evaluation, speed, checkpoints and ranks. A mark shows where a run starts.",
        [
            variable("namespace", "Namespace", "pretune_train_step", "namespace", several=False),
            variable("kind", "Kind", 'pretune_train_step{namespace="$namespace"}', "kind", several=False),
            variable("job", "Job", 'pretune_train_step{namespace="$namespace",kind="$kind"}', "name", several=False),
        ],
        {"Now": _now(), "Learning": _learning(), "Speed": _speed(), "Checkpoints": _checkpoints(), "Ranks": _ranks()},
        [marks("Runs", f"time() - {_now_of('run_start_time_seconds')} < {_MARKED_SECONDS}")],
    )


def _series(metric: str) -> str:
    return f'pretune_train_{metric}{{namespace="$namespace",kind="$kind",name="$job"}}'


def _now_of(metric: str) -> str:
    """A gauge, whichever attempt's pod exposes it."""
    return f"max by ({_OF}) ({_series(metric)})"


def _rate_of(metric: str, by: str = _OF) -> str:
    return f"sum by ({by}) (rate({_series(metric)}[$__rate_interval]))"


def _now() -> list[Stat]:
    return [
        figure(
            "Progress",
            "Share of the planned steps that are done.",
            units.PercentUnit,
            f"{_now_of('step')} / {_now_of('steps_planned')}",
        ),
        figure(
            "Time left",
            "Time until the last planned step, at the mean step time of the last 5 minutes.",
            units.DurationSeconds,
            f"({_now_of('steps_planned')} - {_now_of('step')})"
            f" * sum by ({_OF}) (rate({_series('step_seconds_sum')}[5m]))"
            f" / sum by ({_OF}) (rate({_series('step_seconds_count')}[5m]))",
        ),
        figure("Loss", "Mean training loss over the targets of the last step, in nats.", units.NoUnit, _now_of("loss")),
        figure(
            "Throughput",
            "Tokens trained on per second.",
            units.Short,
            _rate_of("tokens_total"),
        ),
        figure(
            "Goodput",
            "Share of the current attempt's time that was spent on new steps.",
            units.PercentUnit,
            _now_of("goodput"),
            limits=(0.8, 0.5),
        ),
        figure(
            "Uncommitted steps",
            "Steps that would be repeated if the run were lost now.",
            units.NoUnit,
            _now_of("uncommitted_steps"),
        ),
    ]


def _learning() -> list[TimeSeries]:
    return [
        curve(
            "Loss",
            "Mean training loss over the targets of each step, in nats.",
            units.NoUnit,
            Query(_now_of("loss"), "loss"),
        ),
        curve(
            "Evaluation",
            "Metrics of the last evaluation; those of the test data, at the end, are named test_….",
            units.NoUnit,
            Query(f"max by (metric) ({_series('evaluation')})", "{{metric}}"),
        ),
        curve(
            "Gradient norm",
            "Global gradient norm, before clipping. It often rises before the loss does.",
            units.NoUnit,
            Query(_now_of("grad_norm"), "norm"),
        ),
        curve(
            "Learning rate", "Learning rate of the last step.", units.NoUnit, Query(_now_of("learning_rate"), "rate")
        ),
        curve(
            "Steps",
            "Steps done and planned. The curve drops where training resumes from the last checkpoint after a failure.",
            units.NoUnit,
            Query(_now_of("step"), "done"),
            Query(_now_of("steps_planned"), "planned"),
        ),
        curve(
            "Skipped steps",
            "Updates skipped per minute, because the loss or the gradient was not finite or rose sharply.",
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
            "Wall time of a step: median and 95th percentile.",
            units.Seconds,
            Query(f"histogram_quantile(0.5, {_rate_of('step_seconds_bucket', 'le')})", "median"),
            Query(f"histogram_quantile(0.95, {_rate_of('step_seconds_bucket', 'le')})", "95th percentile"),
        ),
        curve(
            "Model FLOPs utilization",
            "Share of the devices' peak FLOP/s that training uses. Empty where the peak is unknown, as on CPUs.",
            units.PercentUnit,
            Query(_now_of("mfu"), "MFU"),
            limits=(0.3, 0.15),
        ),
        curve(
            "Data wait",
            "Share of the step time that is spent waiting for data.",
            units.PercentUnit,
            Query(f"{_rate_of('data_wait_seconds_total')} / {_rate_of('step_seconds_sum')}", "waiting"),
            limits=(0.05, 0.2),
        ),
        curve(
            "Goodput",
            "Share of the current attempt's time that was spent on new steps. The rest is preparation, evaluation, "
            "checkpoints and repeated steps.",
            units.PercentUnit,
            Query(_now_of("goodput"), "goodput"),
            limits=(0.8, 0.5),
        ),
        curve(
            "Memory",
            "Highest peak memory of any rank: of its device, or of its process on a CPU.",
            units.BytesIEC,
            Query(_now_of("memory_bytes"), "peak"),
        ),
    ]


def _checkpoints() -> list[TimeSeries]:
    return [
        curve(
            "Uncommitted steps",
            "Steps since the last commit, and the interval between checkpoints.",
            units.NoUnit,
            Query(_now_of("uncommitted_steps"), "since the commit"),
            Query(_now_of("checkpoint_interval_steps"), "interval"),
        ),
        curve(
            "Age of the last checkpoint",
            "Time since the last commit of the current attempt.",
            units.Seconds,
            Query(_now_of("checkpoint_age_seconds"), "age"),
        ),
        curve(
            "Checkpoint time",
            "Average time from the start of a checkpoint to its commit, in the current attempt; training goes on.",
            units.Seconds,
            Query(f"{_now_of('checkpoint_seconds_sum')} / {_now_of('checkpoint_seconds_count')}", "to the commit"),
        ),
        curve(
            "Blocked by checkpoints",
            "Share of the time that training is blocked by checkpoints.",
            units.PercentUnit,
            Query(_rate_of("checkpoint_blocked_seconds_total"), "blocked"),
            limits=(0.01, 0.05),
        ),
    ]


def _ranks() -> list[TimeSeries]:
    return [
        curve(
            "Batch time",
            "Time that the slowest and the fastest rank take to make the batches of a step. A large gap: a straggler.",
            units.Seconds,
            Query(f"max by (rank) ({_series('rank_batch_seconds')})", "{{rank}}"),
        ),
        curve(
            "Slowest rank",
            "Number of the rank that takes longest to make its batches. If it is always the same rank, that rank is a "
            "straggler; otherwise it varies at random.",
            units.NoUnit,
            Query(_now_of("slowest_rank"), "rank"),
        ),
        curve(
            "Runs",
            "Starts of the group of ranks in the current attempt: one more each time that lost workers were replaced.",
            units.NoUnit,
            Query(_now_of("runs_total"), "runs"),
        ),
    ]
