"""How jobs on a cluster look: as a table that stays up to date, or as JSON lines for programs."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from pretune_api.names import ExitCode
from pretune_api.status import Condition, Progress
from pretune_cli.cluster import Cluster, SeenJob
from pretune_cli.display import progress_cells, side_by_side
from pretune_cli.formatting import harmless
from pretune_operator.conditions import ConditionType, condition

_SECONDS: Final = 2.0
"""Between two looks; the operator writes progress every few seconds at most."""
_WAITED_FOR: Final = (ConditionType.ACCEPTED, ConditionType.INPUTS_RESOLVED, ConditionType.RUNNING)
"""Conditions that say, while they do not hold, why nothing happens."""


def follow(cluster: Cluster, jobs: Sequence[SeenJob]) -> int:
    """Show the jobs until each has ended; the exit status says whether all have succeeded."""
    states = _states(cluster, jobs)
    console = Console()
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            for seen in states:
                live.update(overview(seen), refresh=True)
    else:
        _print_changes(states)
    return ExitCode.OK if all(job.status.state == "Succeeded" for job in _last(cluster, jobs)) else ExitCode.FAILED


def overview(jobs: Sequence[SeenJob]) -> RenderableType:
    """A line a job, and below each why it waits or has failed."""
    lines: list[RenderableType] = []
    for job in jobs:
        lines.append(_line(job))
        if said := why(job):
            lines.append(Text(harmless(f"  {said.reason}: {said.message}")))
    return Group(*lines)


def why(job: SeenJob) -> Condition | None:
    """The condition that says why a job has failed, or does not run."""
    failed = condition(job.status, ConditionType.FAILED)
    if failed is not None and failed.status == "True":
        return failed
    if job.status.state == "Succeeded":
        return None
    said = (condition(job.status, about) for about in _WAITED_FOR)
    return next((found for found in said if found is not None and found.status == "False"), None)


def _last(cluster: Cluster, jobs: Sequence[SeenJob]) -> list[SeenJob]:
    return [cluster.get(job.ref.kind, job.ref.name, job.ref.namespace) for job in jobs]


def _states(cluster: Cluster, jobs: Sequence[SeenJob]) -> Iterator[list[SeenJob]]:
    while True:
        seen = _last(cluster, jobs)
        yield seen
        if all(job.ended for job in seen):
            return
        time.sleep(_SECONDS)


def _print_changes(states: Iterator[list[SeenJob]]) -> None:
    told: dict[str, dict[str, Any]] = {}
    for seen in states:
        for job in seen:
            line = _as_json(job)
            if told.get(job.key) != line:
                told[job.key] = line
                print(json.dumps(line), file=sys.stdout, flush=True)


def _as_json(job: SeenJob) -> dict[str, Any]:
    progress = job.status.progress
    figures = progress.model_dump(mode="json", by_alias=True, exclude_none=True) if progress else {}
    said = why(job)
    reason = {"reason": said.reason, "message": said.message} if said else {}
    return {"job": job.key, "state": job.status.state, **figures, **reason}


def _line(job: SeenJob) -> RenderableType:
    return side_by_side(job.key, job.status.state, *_progress(job.status.progress))


def _progress(progress: Progress | None) -> Iterator[RenderableType]:
    if progress is not None:
        yield from progress_cells(progress.model_dump(by_alias=True))
