"""What reconcile() decides: what to do, to write into status, to say. Only data; cluster/act.py carries it out."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from pretune_api.run_config import RunConfig
from pretune_api.status import Status


@dataclass(frozen=True)
class StartAttempt:
    """Make what an attempt consists of, once what those before it have left is deleted. A RayJob that exists already is
    left as it is."""

    number: int
    config: RunConfig


@dataclass(frozen=True)
class DeleteAttempt:
    """Delete a RayJob, its Ray cluster and pods with it; pods drain by their preStop hooks."""

    ray_job: str


@dataclass(frozen=True)
class DeleteCluster:
    """Delete the Ray cluster of a RayJob that has finished, and keep the RayJob."""

    ray_cluster: str


@dataclass(frozen=True)
class DeleteLeftovers:
    """Delete the ConfigMaps and NetworkPolicies of all attempts, of which nothing runs any more. Nobody watches them:
    nothing follows from it."""


@dataclass(frozen=True)
class StartPreflight:
    """Make the Job of a preflight. One that exists already is left as it is; one that is refused is done without."""

    number: int
    config: RunConfig


@dataclass(frozen=True)
class DeletePreflight:
    """Delete the Job of a preflight, its pod with it."""

    job: str


Action = StartAttempt | DeleteAttempt | DeleteCluster | DeleteLeftovers | StartPreflight | DeletePreflight


@dataclass(frozen=True)
class Event:
    """A Kubernetes event about the job."""

    type: Literal["Normal", "Warning"]
    reason: str
    """One CamelCase word."""
    message: str
    """A sentence."""


@dataclass(frozen=True)
class Decision:
    """What follows from what was seen. Status is written after the actions, if it differs from the job's."""

    status: Status
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    again: timedelta | None = None
    """Look again after this time even if nothing changes: the end of a backoff, a deadline, a time to live."""
