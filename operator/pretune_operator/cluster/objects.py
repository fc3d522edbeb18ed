"""What is kept of each watched resource: the fields that are read, and no others.

Two versions of a resource that are equal here need no reconcile, so that most of what pods and RayJobs report costs
nothing. `version` and `uid` take no part in that.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, NamedTuple

from pretune_api.status import Artifact
from pretune_operator.cluster.kinds import BATCH_JOBS, JOBS, PODS, RAY_CLUSTERS, RAY_JOBS, Resource
from pretune_operator.observed import ParentState, SeenPod


class JobKey(NamedTuple):
    """A job in the cluster."""

    namespace: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A resource as it was last seen."""

    namespace: str
    name: str
    uid: str = field(compare=False)
    version: int = field(compare=False)
    """metadata.resourceVersion, which grows with every change."""
    deleting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredJob(Stored):
    """A PretrainJob or a FinetuneJob."""

    kind: str
    generation: int
    labels: dict[str, str]
    parents: tuple[str, ...]
    """KIND/NAME of the jobs that it starts from."""
    shown: str
    """status.state."""
    state: ParentState
    """How far it is, for the jobs that start from it."""
    artifact: Artifact | None
    document: bytes
    """What its user wrote, in JSON: parsed only when it is reconciled, which keeps thousands of jobs small."""
    status: bytes = field(compare=False)
    """Its status in JSON."""
    judged: int
    """Stands for what status says, but for how far its head is: operators copy that from the head. If it were news, two
    operators that have read a head at different moments would write over each other's word without end."""

    @property
    def key(self) -> JobKey:
        """Its place in the cluster."""
        return JobKey(self.namespace, self.kind, self.name)

    @property
    def resource(self) -> Resource:
        """Which of the two it is."""
        return JOBS[self.kind]

    @property
    def reference(self) -> str:
        """KIND/NAME, as other jobs of its namespace refer to it."""
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Child(Stored):
    """What belongs to an attempt or a preflight of a job."""

    resource: ClassVar[Resource]
    """Its kind."""
    job: str
    """UID of the job."""
    attempt: int
    """Number of the attempt; 0 of what belongs to a preflight."""
    preflight: int
    """Number of the preflight; 0 of what belongs to an attempt."""
    created: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRayJob(Child):
    """A RayJob."""

    resource = RAY_JOBS
    suspended: bool
    deployment_status: str
    job_status: str
    reason: str
    message: str
    taken_up: datetime | None
    """status.startTime."""
    end: datetime | None
    """status.endTime."""
    ray_cluster: str | None
    """status.rayClusterName, which is there before the RayCluster is."""
    gpus: int
    image: str | None
    """Image of the head's container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRayCluster(Child):
    """A RayCluster."""

    resource = RAY_CLUSTERS
    problem: str | None
    """Why its pods could not be made."""
    orphaned: bool
    """Whether it has no owner, and so does not go with its RayJob."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPreflight(Child):
    """A preflight's Job."""

    resource = BATCH_JOBS
    end: datetime | None
    """When it was complete, or given up."""
    problem: str | None
    """Why it was given up."""
    suspended: bool
    """spec.suspend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPod(Child):
    """A pod of a RayCluster or of a preflight."""

    resource = PODS
    ray_cluster: str
    is_head: bool
    seen: SeenPod
    leaves_by: datetime | None
    """When its node has to be done with it, if it is being deleted."""
    doubted: datetime | None
    """Since when it is not ready while its containers are: it runs on a node that is not heard of."""
