"""`pretune status`: a job on a cluster, its attempts, and what it was made from."""

import argparse
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from pretune_api.names import ExitCode
from pretune_api.status import Attempt, Finding, Progress
from pretune_cli.cluster import Cluster, SeenJob
from pretune_cli.formatting import duration, harmless
from pretune_cli.watching import follow, why
from pretune_trainer.drive.log_sink import figures


def status(arguments: argparse.Namespace) -> int:
    """Show the job, once or until it ends; the exit status.

    Raises:
        PretuneError: there is no such job, or the cluster cannot be asked.
    """
    cluster = Cluster(arguments.namespace)
    job = cluster.find(arguments.job)
    if arguments.watch:
        return follow(cluster, [job])
    console = Console(soft_wrap=True)
    for line in _lines(job, cluster.lineage(job)):
        console.print(Text(harmless(line)))
    return ExitCode.OK


def _lines(job: SeenJob, lineage: list[str]) -> Iterator[str]:
    status = job.status
    yield ", ".join(filter(None, [job.key, status.stage, status.state, *_progress(status.progress)]))
    if said := why(job):
        yield f"{said.reason}: {said.message}"
    if status.metrics:
        yield f"metrics: {figures(status.metrics)}"
    if status.gpu_seconds:
        yield f"GPU-hours: {status.gpu_seconds / 3600:.2f}"
    if lineage:
        yield f"made from: {', '.join(lineage)}"
    if status.artifact is not None:
        yield f"artifact: {status.artifact.uri} {status.artifact.digest}"
    yield from map(_finding, status.preflight)
    yield from map(_attempt, status.attempts)


def _progress(progress: Progress | None) -> Iterator[str]:
    if progress is None:
        return
    yield f"step {progress.step:,} of {progress.total:,}"
    if progress.loss is not None:
        yield f"loss {progress.loss:.4f}"
    if progress.tokens_per_second:
        yield f"{progress.tokens_per_second:,.0f} tokens/s"
    if progress.eta_seconds:
        yield f"{duration(progress.eta_seconds)} left"


def _finding(finding: Finding) -> str:
    result = {"Ok": "ok", "Wrong": "wrong", "NotKnown": "not known"}[finding.result]
    return f"preflight: {finding.check}: {result}: {finding.place}: {finding.sentence}"


def _attempt(attempt: Attempt) -> str:
    times = {"began": attempt.start_time, "ended": attempt.completion_time}
    said = [f"{word} {when:%Y-%m-%d %H:%M:%S}" for word, when in times.items() if when]
    step = [f"from step {attempt.from_step:,}"] if attempt.from_step is not None else []
    cause = [f"{attempt.cause}: {attempt.message}"] if attempt.cause else []
    return f"attempt {attempt.number}: {', '.join([attempt.ray_job, *said, *step, *cause])}"
