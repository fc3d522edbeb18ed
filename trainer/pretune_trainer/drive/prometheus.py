"""What a run exposes to Prometheus: the names, and how events become values."""

import math
import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest

from pretune_api.status import MOST_METRICS
from pretune_trainer.drive.progress import Progress
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

LABELS: Final = ("namespace", "kind", "name")
"""Labels of every metric; never `job`, which is Prometheus' own."""

_SECONDS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


class TrainMetrics:
    """The metrics of the jobs that one board has seen, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._preparing = self._gauge(
            PREPARING_SECONDS, "Seconds for which the ranks have prepared data and model; 0 after training has started."
        )
        self._running = self._gauge(RUNNING, "1 while ranks train, evaluate or publish, 0 after they have ended.")
        self._run_start = self._gauge(RUN_START, "Start of the last run, as Unix time in seconds.")
        self._step = self._gauge(STEP, "Optimizer steps done.")
        self._planned = self._gauge(STEPS_PLANNED, "Optimizer steps planned.")
        self._tokens = self._counter(TOKENS, "Tokens trained on, including those repeated after a failure.")
        self._tokens_per_second = self._gauge(
            TOKENS_PER_SECOND, "Throughput over the last 50 steps, all ranks, in tokens per second."
        )
        self._loss = self._gauge(LOSS, "Mean loss over the targets of the last step, in nats.")
        self._learning_rate = self._gauge(LEARNING_RATE, "Learning rate of the last step.")
        self._grad_norm = self._gauge(GRAD_NORM, "Global gradient norm of the last step, before clipping.")
        self._mfu = self._gauge(
            MFU, "Model FLOPs utilization of the last step, 0 to 1; absent where the device's peak FLOP/s is unknown."
        )
        self._data_wait = self._counter(DATA_WAIT_SECONDS, "Time that steps waited for data, in seconds.")
        self._step_seconds = Histogram(
            STEP_SECONDS, "Wall time of a step, in seconds.", LABELS, registry=self.registry, buckets=_SECONDS
        )
        self._skipped = self._counter(SKIPPED_STEPS, "Updates skipped because they were unstable.")
        self._memory = self._gauge(
            MEMORY, "Highest peak memory of any rank so far, in bytes: of its device, or of its process on a CPU."
        )
        self._batch_seconds = Gauge(
            RANK_BATCH_SECONDS,
            "Time that the slowest and the fastest rank took to make the batches of the last step, in seconds.",
            (*LABELS, "rank"),
            registry=self.registry,
        )
        self._slowest_rank = self._gauge(SLOWEST_RANK, "Number of the rank that took longest to make its batches.")
        self._checkpoint_interval = self._gauge(CHECKPOINT_INTERVAL, "Optimizer steps between checkpoints.")
        self._uncommitted = self._gauge(UNCOMMITTED_STEPS, "Steps that would be repeated if the run were lost now.")
        self._checkpoint_step = self._gauge(CHECKPOINT_STEP, "Step of the last committed checkpoint.")
        self._checkpoint_seconds = Summary(
            CHECKPOINT_SECONDS,
            "Time from the start of a checkpoint to its commit, in seconds.",
            LABELS,
            registry=self.registry,
        )
        self._blocked = self._counter(
            CHECKPOINT_BLOCKED_SECONDS, "Time that training was blocked by checkpoints, in seconds."
        )
        self._checkpoint_age = self._gauge(CHECKPOINT_AGE_SECONDS, "Seconds since the last commit.")
        self._evaluation = Gauge(
            EVALUATION, "Metrics of the last evaluation.", (*LABELS, "metric"), registry=self.registry
        )
        self._goodput = self._gauge(
            GOODPUT, "Share of the time since the ranks took the job that was spent on new steps, 0 to 1."
        )
        self._runs = self._counter(RUNS, "Starts of the group of ranks.")

    def observe(self, job: dict[str, str], event: Event) -> None:
        """Take in what `job` (its namespace, kind and name) tells."""
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
        self._preparing.labels(**job).set(progress.preparing_seconds)
        if progress.start is None:
            return
        self._running.labels(**job).set(progress.is_running)
        self._uncommitted.labels(**job).set(progress.uncommitted_steps)
        if progress.is_running:
            self._tokens_per_second.labels(**job).set(progress.tokens_per_second)
            self._goodput.labels(**job).set(progress.goodput)

    def to_text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)

    def _observe_start(self, job: dict[str, str], event: Start) -> None:
        for counter in (self._tokens, self._data_wait, self._skipped, self._blocked):
            counter.labels(**job)  # it begins at 0: Prometheus does not see the increase of one that begins at 1
        self._runs.labels(**job).inc()
        self._run_start.labels(**job).set_to_current_time()
        self._planned.labels(**job).set(event.total_steps)
        self._step.labels(**job).set(event.from_step)
        self._checkpoint_interval.labels(**job).set(event.checkpoint_every)

    def _observe_step(self, job: dict[str, str], event: Step) -> None:
        self._step.labels(**job).set(event.step)
        self._tokens.labels(**job).inc(event.tokens)
        self._loss.labels(**job).set(event.loss)
        self._learning_rate.labels(**job).set(event.learning_rate)
        self._grad_norm.labels(**job).set(event.grad_norm)
        if math.isfinite(event.mfu):
            self._mfu.labels(**job).set(event.mfu)
        self._data_wait.labels(**job).inc(event.data_wait_seconds)
        self._step_seconds.labels(**job).observe(event.seconds)
        self._skipped.labels(**job).inc(event.skipped)
        self._memory.labels(**job).set(event.memory)
        self._slowest_rank.labels(**job).set(event.slowest_rank)
        self._batch_seconds.labels(**job, rank="slowest").set(event.slowest_seconds)
        self._batch_seconds.labels(**job, rank="fastest").set(event.fastest_seconds)

    def _observe_commit(self, job: dict[str, str], event: Committed) -> None:
        committed = time.monotonic()
        self._checkpoint_step.labels(**job).set(event.step)
        self._checkpoint_seconds.labels(**job).observe(event.seconds)
        self._blocked.labels(**job).inc(event.blocked_seconds)
        self._checkpoint_age.labels(**job).set_function(lambda: time.monotonic() - committed)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, LABELS, registry=self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, LABELS, registry=self.registry)


def _exposed(metrics: dict[str, float]) -> dict[str, float]:
    """Metrics that become series: those of slices never do, and those of labels only where all together are few."""
    whole = {name: value for name, value in metrics.items() if not is_sliced(name)}
    if len(whole) <= MOST_METRICS:
        return whole
    return {name: value for name, value in whole.items() if not is_of_label(name)}
