"""What was seen of a job in the cluster: all that reconcile() knows beside the job itself. Only data, no client."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pydantic import FiniteFloat, NonNegativeInt

from pretune_api.status import Artifact, Progress


class ParentState(StrEnum):
    """How far a job is that another one starts from."""

    MISSING = "Missing"
    RUNNING = "Running"
    FAILED = "Failed"
    SUCCEEDED = "Succeeded"


@dataclass(frozen=True)
class SeenParent:
    """A job that `model.from` or `tokenizer.from` names."""

    state: ParentState
    """How far it is."""
    artifact: Artifact | None = None
    """What it made, once it has succeeded."""
    parents: tuple[str, ...] = ()
    """KIND/NAME of all its ancestors that were found: a cycle closes where the job itself is among them."""


@dataclass(frozen=True)
class SeenPod:
    """A pod of an attempt."""

    name: str
    phase: str
    """Pending, Running, Succeeded, Failed or Unknown."""
    ready: bool = False
    deleting: bool = False
    """Whether it has a deletion timestamp."""
    node: str | None = None
    ip: str | None = None
    unschedulable: str | None = None
    """What the scheduler lacks for it, in its words."""
    waiting_reason: str | None = None
    """Why its container waits: ImagePullBackOff, CreateContainerConfigError…"""
    waiting_message: str | None = None
    terminated_reason: str | None = None
    """Why its container ended, now or before its last restart: OOMKilled, Error, Completed."""
    exit_code: int | None = None
    message: str | None = None
    """What its container has left as its last words."""
    disruption: str | None = None
    """Reason of its DisruptionTarget condition: EvictionByEvictionAPI, PreemptionByScheduler…"""
    node_lost: bool = False
    """Whether its node is gone, or has not been heard of for longer than it may; or it should have left long ago."""

    @property
    def may_work(self) -> bool:
        """Whether its containers may run. On a lost node they may, but the fence of runs keeps out what they write."""
        return self.phase in ("Pending", "Running", "Unknown") and not self.node_lost

    @property
    def holds_machine(self) -> bool:
        """Whether a node keeps room for it."""
        return self.node is not None and self.phase in ("Pending", "Running")


@dataclass(frozen=True)
class Ending:
    """The driver's last word: how the order ended."""

    exit_code: int
    message: str
    cause: str | None = None
    artifact: Artifact | None = None
    metrics: dict[str, FiniteFloat] = field(default_factory=dict)
    step: int = 0
    log: str | None = None
    """Last lines of the log of the process that failed."""


@dataclass(frozen=True)
class SeenProgress:
    """What the head pod's /progress said when it was last read."""

    state: str
    """Starting, Running, Stopping, Succeeded, Failed or Stopped."""
    steps: Progress
    """How far it is; no steps are planned before it knows how many."""
    run: NonNegativeInt | None = None
    from_step: NonNegativeInt | None = None
    """Step of the checkpoint that the run started from; 0 from the beginning."""
    metrics: dict[str, FiniteFloat] = field(default_factory=dict)
    ending: Ending | None = None


@dataclass(frozen=True)
class SeenAttempt:
    """A RayJob of the job, and what belongs to it. It is seen until the RayJob and its last pod are gone."""

    number: int
    ray_job: str
    created: datetime
    deleting: bool = False
    """Whether the RayJob has a deletion timestamp, or is gone while pods of it remain."""
    suspended: bool = False
    """spec.suspend, which is Kueue's alone to write."""
    deployment_status: str = ""
    """status.jobDeploymentStatus: "", Initializing, Running, Complete, Failed, ValidationFailed, Suspending, Suspended,
    Retrying, Waiting."""
    job_status: str = ""
    """status.jobStatus: PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED."""
    taken_up: datetime | None = None
    """When KubeRay began to make its Ray cluster."""
    end: datetime | None = None
    """When KubeRay found it complete or failed."""
    reason: str = ""
    message: str = ""
    ray_cluster: str | None = None
    """Name of the RayCluster, while there is one that is not being deleted."""
    orphan: str | None = None
    """Name of a RayCluster that has outlived its RayJob, as after `kubectl delete --cascade=orphan`."""
    cluster_problem: str | None = None
    """Why pods of the RayCluster could not be made, such as an exceeded quota, in the API server's words."""
    head: SeenPod | None = None
    workers: tuple[SeenPod, ...] = ()
    gpus: int = 0
    """GPUs that all its workers ask for."""
    image: str | None = None
    """Image of its head's container."""
    progress: SeenProgress | None = None
    """What its head pod said; not what the head of an earlier Ray cluster of this RayJob said, before Kueue took it."""
    last_line: Ending | None = None
    """What the driver that failed said in its last line, as KubeRay passes it on."""

    @property
    def pods(self) -> tuple[SeenPod, ...]:
        """All its pods, the head first."""
        return (self.head, *self.workers) if self.head else self.workers

    @property
    def ending(self) -> Ending | None:
        """The driver's last word: what its board says, or the line that it ended with where the board did not hear."""
        return (self.progress.ending if self.progress else None) or self.last_line

    @property
    def is_running(self) -> bool:
        """Whether KubeRay says that its Ray cluster is complete, and the driver submitted or about to be."""
        return self.deployment_status == "Running"

    @property
    def has_succeeded(self) -> bool:
        """Whether KubeRay says that the driver has."""
        return self.job_status == "SUCCEEDED"

    @property
    def has_finished(self) -> bool:
        """Whether KubeRay does nothing more with the RayJob."""
        return self.deployment_status in ("Complete", "Failed", "ValidationFailed")

    @property
    def is_queued(self) -> bool:
        """Whether Kueue holds it back, or is about to. KubeRay may find a suspended RayJob invalid, which ends it."""
        return not self.has_finished and (self.suspended or self.deployment_status in ("Suspending", "Suspended"))

    @property
    def is_over(self) -> bool:
        """Whether it can do nothing any more: it has finished or is being deleted, and no pod of it works."""
        return (self.has_finished or self.deleting) and not any(pod.may_work for pod in self.pods)

    @property
    def is_leaving(self) -> bool:
        """Whether it, or any pod of it, has a deletion timestamp."""
        return self.deleting or any(pod.deleting for pod in self.pods)

    @property
    def head_is_gone(self) -> bool:
        """Whether its head's pod has ended or is on a lost node, or there is none."""
        return self.head is None or self.head.node_lost or self.head.phase in ("Failed", "Succeeded")


@dataclass(frozen=True)
class SeenPreflight:
    """A preflight's Job."""

    number: int
    job: str
    """Its name."""
    deleting: bool = False
    end: datetime | None = None
    """When Kubernetes was done with it."""
    problem: str | None = None
    """Why Kubernetes has given it up, in its words."""
    suspended: bool = False
    """Whether somebody holds it back, as Kueue does with what it has not admitted."""
    pod: SeenPod | None = None


@dataclass(frozen=True)
class Cluster:
    """What is known of the cluster as a whole."""

    kuberay_problem: str | None = None
    """Why no RayJob can be made: KubeRay is missing, or too old."""
    kueue: bool = True
    """Whether Kueue's API is served."""


@dataclass(frozen=True)
class Observed:
    """Everything seen of one job at one moment."""

    attempts: dict[int, SeenAttempt] = field(default_factory=dict)
    """RayJobs that exist, or whose pods do, by number of attempt."""
    preflights: dict[int, SeenPreflight] = field(default_factory=dict)
    """Preflights' Jobs that exist, by number."""
    parents: dict[str, SeenParent] = field(default_factory=dict)
    """Parents that the job names, by KIND/NAME."""
    cluster: Cluster = Cluster()

    @property
    def in_the_way(self) -> list[SeenAttempt]:
        """Attempts that may still train: another one must wait for them."""
        return [attempt for attempt in self.attempts.values() if not attempt.is_over]
