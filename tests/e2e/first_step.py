"""From `kubectl apply` to the first training step, part by part, as the objects of the cluster tell it."""

import subprocess
import time
from datetime import UTC, datetime
from itertools import pairwise

from e2e.world import Document, Namespace

_POLL_SECONDS = 0.25


def parts_to_first_step(team: Namespace, reference: str, seconds: float) -> dict[str, float]:
    """Seconds that each part took, in order, once the job KIND/NAME, applied a moment ago, has done a step.

    The cluster tells times in whole seconds: each part is right to one second.

    Raises:
        AssertionError: no step was done within `seconds`.
    """
    done = _first_step(team, reference, time.monotonic() + seconds)
    [ray_job] = team.ray_jobs(reference)
    [head], workers = team.pods(reference, "head"), team.pods(reference, "worker")
    moments = {
        "": _created(team.job(reference)),
        "RayJob made": _created(ray_job),
        "pods made": max(_created(pod) for pod in (head, *workers)),
        "pods scheduled": max(_condition(pod, "PodScheduled") for pod in (head, *workers)),
        "Ray's head ready": _condition(head, "Ready"),
        "Ray's workers ready": max(_condition(pod, "Ready") for pod in workers),
        "first step done": done,
    }
    return {what: (at - before).total_seconds() for (_, before), (what, at) in pairwise(moments.items())}


def _first_step(team: Namespace, reference: str, end: float) -> datetime:
    while not _steps(team, reference):
        assert time.monotonic() < end, f"{reference} has done no step"
        time.sleep(_POLL_SECONDS)
    return datetime.now(UTC)


def _steps(team: Namespace, reference: str) -> int:
    """Steps that the job's head says are done; 0 where there is none, or it says nothing yet."""
    for head in team.pods(reference, "head"):
        try:
            return int(team.progress(head).get("step", 0))
        except subprocess.CalledProcessError:
            return 0
    return 0


def _created(document: Document) -> datetime:
    return datetime.fromisoformat(document["metadata"]["creationTimestamp"])


def _condition(pod: Document, name: str) -> datetime:
    [found] = (condition for condition in pod["status"]["conditions"] if condition["type"] == name)
    return datetime.fromisoformat(found["lastTransitionTime"])
