"""What a run exposes to Prometheus: the names, and how events become values."""

import math
import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest

from pretune_api.status import MOST_METRICS
from pretune_trainer.drive.progress import Progress
from pretune_trainer.drive.wire import LABELS
from pretune_trainer.metrics.slices import is_of_label, is_sliced
from pretune_trainer.report import Committed, Evaluated, Event, Start, Step

PREPARING_SECONDS: Final = "pretune_train_preparing_seconds"
RUNNING: Final = "pretune_train_running"
RUN_START: Final = "pretune_train_run_start_time_seconds"
STEP: Final = "pretune_train_step"
STEPS_PLANNED: Final = "pretune_train_steps_planned"
TOKENS: Final = "pretune_train_tokens_total"
TOKENS_PER_SECOND: Final = "pretune_train_tokens_per_second"
LOSS: Final = "pretune_train_loss"
LEARNING_RATE: Final = "pretune_train_learning_rate"
GRAD_NORM: Final = "pretune_train_grad_norm"
MFU: Final = "pretune_train_mfu"
DATA_WAIT_SECONDS: Final = "pretune_train_data_wait_seconds_total"
STEP_SECONDS: Final = "pretune_train_step_seconds"
SKIPPED_STEPS: Final = "pretune_train_skipped_steps_total"
MEMORY: Final = "pretune_train_memory_bytes"
RANK_BATCH_SECONDS: Final = "pretune_train_rank_batch_seconds"
SLOWEST_RANK: Final = "pretune_train_slowest_rank"
CHECKPOINT_INTERVAL: Final = "pretune_train_checkpoint_interval_steps"
UNCOMMITTED_STEPS: Final = "pretune_train_uncommitted_steps"
CHECKPOINT_STEP: Final = "pretune_train_checkpoint_step"
CHECKPOINT_SECONDS: Final = "pretune_train_checkpoint_seconds"
CHECKPOINT_BLOCKED_SECONDS: Final = "pretune_train_checkpoint_blocked_seconds_total"
CHECKPOINT_AGE_SECONDS: Final = "pretune_train_checkpoint_age_seconds"
EVALUATION: Final = "pretune_train_evaluation"
GOODPUT: Final = "pretune_train_goodput"
RUNS: Final = "pretune_train_runs_total"

_GAUGES: Final = {
    PREPARING_SECONDS: "Seconds for which the ranks have prepared data and model; 0 after training has started.",
    RUNNING: "1 while ranks train, evaluate or publish, 0 after they have ended.",
    RUN_START: "Start of the last run, as Unix time in seconds.",
    STEP: "Optimizer steps done.",
    STEPS_PLANNED: "Optimizer steps planned.",
    TOKENS_PER_SECOND: "Throughput over the last 50 steps, all ranks, in tokens per second.",
    LOSS: "Mean loss over the targets of the last step, in nats.",
    LEARNING_RATE: "Learning rate of the last step.",
    GRAD_NORM: "Global gradient norm of the last step, before clipping.",
    MFU: "Model FLOPs utilization of the last step, 0 to 1; absent where the device's peak FLOP/s is unknown.",
    MEMORY: "Highest peak memory of any rank so far, in bytes: of its device, or of its process on a CPU.",
    SLOWEST_RANK: "Number of the rank that took longest to make its batches.",
    CHECKPOINT_INTERVAL: "Optimizer steps between checkpoints.",
    UNCOMMITTED_STEPS: "Steps that would be repeated if the run were lost now.",
    CHECKPOINT_STEP: "Step of the last committed checkpoint.",
    CHECKPOINT_AGE_SECONDS: "Seconds since the last commit.",
    GOODPUT: "Share of the time since the ranks took the job that was spent on new steps, 0 to 1.",
}
_COUNTERS: Final = {
    TOKENS: "Tokens trained on, including those repeated after a failure.",
    DATA_WAIT_SECONDS: "Time that steps waited for data, in seconds.",
    SKIPPED_STEPS: "Updates skipped because they were unstable.",
    CHECKPOINT_BLOCKED_SECONDS: "Time that training was blocked by checkpoints, in seconds.",
    RUNS: "Starts of the group of ranks.",
}
_SECONDS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)

Job = dict[str, str]
"""Namespace, kind and name of a job, by label."""


class TrainMetrics:
    """The metrics of the jobs that one board has seen, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._gauges = {name: self._gauge(name, text) for name, text in _GAUGES.items()}
        self._counters = {name: Counter(name, text, LABELS, registry=self.registry) for name, text in _COUNTERS.items()}
        self._step_seconds = Histogram(
            STEP_SECONDS, "Wall time of a step, in seconds.", LABELS, registry=self.registry, buckets=_SECONDS
        )
        self._batch_seconds = self._gauge(
            RANK_BATCH_SECONDS,
            "Time that the slowest and the fastest rank took to make the batches of the last step, in seconds.",
            "rank",
        )
        self._checkpoint_seconds = Summary(
            CHECKPOINT_SECONDS,
            "Time from the start of a checkpoint to its commit, in seconds.",
            LABELS,
            registry=self.registry,
        )
        self._evaluation = self._gauge(EVALUATION, "Metrics of the last evaluation.", "metric")

    def observe(self, job: Job, event: Event) -> None:
        """Take in what a job tells."""
        match event:
            case Start():
                self._observe_start(job, event)
            case Step():
                self._observe_step(job, event)
            case Evaluated():
                for metric, value in _exposed(event.metrics).items():
                    self._evaluation.labels(**job, metric=metric).set(value)
            case Committed():
                self._observe_commit(job, event)

    def observe_progress(self, progress: Progress) -> None:
        """Take in what is known of all events together."""
        job = progress.order.labels
        self._set(job, PREPARING_SECONDS, progress.preparing_seconds)
        if progress.start is None:
            return
        self._set(job, RUNNING, progress.is_running)
        self._set(job, UNCOMMITTED_STEPS, progress.uncommitted_steps)
        if progress.is_running:
            self._set(job, TOKENS_PER_SECOND, progress.tokens_per_second)
            self._set(job, GOODPUT, progress.goodput)

    def to_text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)

    def _observe_start(self, job: Job, event: Start) -> None:
        for name in _COUNTERS:
            self._add(job, name, 0)  # it begins at 0: Prometheus does not see the increase of one that begins at 1
        self._add(job, RUNS, 1)
        self._set(job, RUN_START, time.time())
        self._set(job, STEPS_PLANNED, event.total_steps)
        self._set(job, STEP, event.from_step)
        self._set(job, CHECKPOINT_INTERVAL, event.checkpoint_every)

    def _observe_step(self, job: Job, event: Step) -> None:
        self._set(job, STEP, event.step)
        self._add(job, TOKENS, event.tokens)
        self._set(job, LOSS, event.loss)
        self._set(job, LEARNING_RATE, event.learning_rate)
        self._set(job, GRAD_NORM, event.grad_norm)
        if math.isfinite(event.mfu):
            self._set(job, MFU, event.mfu)
        self._add(job, DATA_WAIT_SECONDS, event.data_wait_seconds)
        self._step_seconds.labels(**job).observe(event.seconds)
        self._add(job, SKIPPED_STEPS, event.skipped)
        self._set(job, MEMORY, event.memory)
        self._set(job, SLOWEST_RANK, event.slowest_rank)
        self._batch_seconds.labels(**job, rank="slowest").set(event.slowest_seconds)
        self._batch_seconds.labels(**job, rank="fastest").set(event.fastest_seconds)

    def _observe_commit(self, job: Job, event: Committed) -> None:
        committed = time.monotonic()
        self._set(job, CHECKPOINT_STEP, event.step)
        self._checkpoint_seconds.labels(**job).observe(event.seconds)
        self._add(job, CHECKPOINT_BLOCKED_SECONDS, event.blocked_seconds)
        self._gauges[CHECKPOINT_AGE_SECONDS].labels(**job).set_function(lambda: time.monotonic() - committed)

    def _set(self, job: Job, name: str, value: float) -> None:
        self._gauges[name].labels(**job).set(value)

    def _add(self, job: Job, name: str, amount: float) -> None:
        self._counters[name].labels(**job).inc(amount)

    def _gauge(self, name: str, text: str, *more_labels: str) -> Gauge:
        return Gauge(name, text, (*LABELS, *more_labels), registry=self.registry)


def _exposed(metrics: dict[str, float]) -> dict[str, float]:
    """Metrics that become series: those of slices never do, and those of labels only where all together are few."""
    whole = {name: value for name, value in metrics.items() if not is_sliced(name)}
    if len(whole) <= MOST_METRICS:
        return whole
    return {name: value for name, value in whole.items() if not is_of_label(name)}
