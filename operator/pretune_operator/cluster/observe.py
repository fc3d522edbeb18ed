"""From the copy of the cluster to what reconcile() sees of one job."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

from pretune_operator.cluster.cache import Cache
from pretune_operator.cluster.objects import (
    Child,
    JobKey,
    StoredJob,
    StoredPod,
    StoredPreflight,
    StoredRayCluster,
    StoredRayJob,
)
from pretune_operator.cluster.progress import last_line
from pretune_operator.observed import (
    Cluster,
    Observed,
    ParentState,
    SeenAttempt,
    SeenParent,
    SeenPod,
    SeenPreflight,
    SeenProgress,
)

NodeLost = Callable[[str], bool | None]
"""Whether the node of a name is gone, or not heard of; None where nobody may ask."""
ReadProgress = Callable[[StoredRayJob, SeenPod | None, bool], SeenProgress | None]
"""What the head of a RayJob's Ray cluster says, given the RayJob, the head pod, and whether that is about to go."""
Hears = Callable[[str], bool]
"""Whether the head of the Ray cluster of a name has just answered."""

Look = Callable[[StoredPod], SeenPod]
"""The pod as it is seen now."""

C = TypeVar("C", bound=Child)

_OVERDUE: Final = timedelta(minutes=2)
"""How long after it had to leave a pod is still there only because nobody on its node can say that it has left."""
_TOLERATED: Final = timedelta(minutes=5)
"""How long a pod's node may be silent where nodes may not be read. After that, Kubernetes evicts pods, but for
those that tolerate everything."""
_ENDED: Final = frozenset({"Complete", "Failed"})
"""Values of status.jobDeploymentStatus after which a Ray job does nothing more."""


def observe(
    job: StoredJob, cache: Cache, cluster: Cluster, lost: NodeLost, read: ReadProgress, hears: Hears, now: datetime
) -> Observed:
    """Everything that is seen of a job now."""

    def look(pod: StoredPod) -> SeenPod:
        return _pod(pod, lost, hears, now)

    ray_jobs = {ray_job.attempt: ray_job for ray_job in cache.children(job, StoredRayJob)}
    clusters, pods = cache.children(job, StoredRayCluster), _pods(job, cache, ray_jobs.values())
    numbers = {child.attempt for child in (*ray_jobs.values(), *pods) if child.attempt}

    def attempt(number: int) -> SeenAttempt:
        of_it, present = _of(number, pods), [each for each in _of(number, clusters) if not each.deleting]
        ray_job = ray_jobs.get(number)
        return _attempt(ray_job, present, of_it, look, read) if ray_job else _remains(present, of_it, look)

    attempts = {number: attempt(number) for number in sorted(numbers)}
    preflights = {made.preflight: _preflight(made, pods) for made in cache.children(job, StoredPreflight)}
    return Observed(attempts, preflights, {name: _parent(job, name, cache) for name in job.parents}, cluster)


def _pods(job: StoredJob, cache: Cache, ray_jobs: Iterable[StoredRayJob]) -> list[StoredPod]:
    """A job's pods; the head that failed last among them, where its Ray cluster has no other one."""
    pods, failed = cache.children(job, StoredPod), cache.failed_head(job)
    if failed is None or failed.ray_cluster not in {ray_job.ray_cluster for ray_job in ray_jobs}:
        return pods
    replaced = any(pod.is_head and pod.ray_cluster == failed.ray_cluster for pod in pods)
    return pods if replaced else [*pods, failed]


def _of(number: int, children: Iterable[C]) -> list[C]:
    return [child for child in children if child.attempt == number]


def _attempt(
    ray_job: StoredRayJob,
    clusters: Iterable[StoredRayCluster],
    pods: Iterable[StoredPod],
    look: Look,
    read: ReadProgress,
) -> SeenAttempt:
    name = ray_job.ray_cluster
    head, workers = _head_and_workers((pod for pod in pods if name is None or pod.ray_cluster == name), look)
    current = next((cluster for cluster in clusters if cluster.name == name), None)
    ending = ray_job.deployment_status in _ENDED or ray_job.deleting or (head is not None and head.deleting)
    attempt = replace(_as_told(ray_job, current, head, workers), progress=read(ray_job, head, ending) if name else None)
    # There may be thousands of workers, and only how an attempt has ended, and whether it is over, depends on them.
    return replace(attempt, workers=tuple(map(look, workers))) if ending or attempt.ending else attempt


def _head_and_workers(pods: Iterable[StoredPod], look: Look) -> tuple[SeenPod | None, list[StoredPod]]:
    by_age = _by_age(pods)
    return _last([look(pod) for pod in by_age if pod.is_head]), [pod for pod in by_age if not pod.is_head]


def _as_told(
    ray_job: StoredRayJob, cluster: StoredRayCluster | None, head: SeenPod | None, workers: list[StoredPod]
) -> SeenAttempt:
    """An attempt as KubeRay and its pods' statuses tell of it: nobody is asked."""
    return SeenAttempt(
        number=ray_job.attempt,
        ray_job=ray_job.name,
        created=ray_job.created,
        deleting=ray_job.deleting,
        suspended=ray_job.suspended,
        deployment_status=ray_job.deployment_status,
        job_status=ray_job.job_status,
        reason=ray_job.reason,
        message=ray_job.message,
        taken_up=ray_job.taken_up,
        end=ray_job.end,
        ray_cluster=cluster.name if cluster else None,
        cluster_problem=cluster.problem if cluster else None,
        head=head,
        workers=tuple(pod.seen for pod in workers),
        gpus=ray_job.gpus,
        image=ray_job.image,
        last_line=last_line(ray_job.message) if ray_job.job_status == "FAILED" else None,
    )


def _preflight(made: StoredPreflight, pods: list[StoredPod]) -> SeenPreflight:
    of_it = [pod.seen for pod in _by_age(pods) if pod.preflight == made.preflight]
    return SeenPreflight(
        number=made.preflight,
        job=made.name,
        deleting=made.deleting,
        end=made.end,
        problem=made.problem,
        suspended=made.suspended,
        pod=_last(of_it),
    )


def _remains(clusters: Iterable[StoredRayCluster], pods: list[StoredPod], look: Look) -> SeenAttempt:
    """An attempt whose RayJob is gone while pods of it still drain."""
    head, workers = _head_and_workers(pods, look)
    first = _by_age(pods)[0]
    # KubeRay names a Ray cluster after its RayJob, with a random suffix.
    name = first.ray_cluster.rpartition("-")[0]
    return SeenAttempt(
        number=first.attempt,
        ray_job=name,
        created=first.created,
        deleting=True,
        orphan=next((cluster.name for cluster in clusters if cluster.orphaned), None),
        head=head,
        workers=tuple(map(look, workers)),
    )


def _by_age(pods: Iterable[StoredPod]) -> list[StoredPod]:
    return sorted(pods, key=lambda pod: (pod.created, pod.name))


def _last(pods: list[SeenPod]) -> SeenPod | None:
    """The youngest pod that stays, or else the youngest, of pods by age."""
    staying = [pod for pod in pods if not pod.deleting]
    return next(reversed(staying or pods), None)


def _pod(pod: StoredPod, lost: NodeLost, hears: Hears, now: datetime) -> SeenPod:
    """The pod, with what can only be known by asking for its node, or by its not leaving."""
    if pod.is_head and not pod.deleting and hears(pod.ray_cluster):
        return pod.seen  # its kubelet may be silent, as after a restart: its containers are not
    stuck = pod.leaves_by is not None and now > pod.leaves_by + _OVERDUE
    return replace(pod.seen, node_lost=True) if stuck or _is_forsaken(pod, lost, now) else pod.seen


def _is_forsaken(pod: StoredPod, lost: NodeLost, now: datetime) -> bool:
    """Whether its node is lost."""
    if pod.seen.phase != "Running" or pod.seen.node is None or pod.doubted is None:
        return False
    known = lost(pod.seen.node)
    return now > pod.doubted + _TOLERATED if known is None else known


def _parent(job: StoredJob, name: str, cache: Cache) -> SeenParent:
    parent = cache.job(_key(job, name))
    if parent is None:
        return SeenParent(ParentState.MISSING)
    return SeenParent(parent.state, parent.artifact, _ancestors(parent, cache))


def _ancestors(job: StoredJob, cache: Cache) -> tuple[str, ...]:
    """KIND/NAME of all jobs that `job` starts from, directly or not; each once, also where they form a ring."""
    found: dict[str, None] = {}
    ahead = list(job.parents)
    while ahead:
        name = ahead.pop()
        parent = cache.job(_key(job, name))
        if parent is not None and name not in found:
            found[name] = None
            ahead += parent.parents
    return tuple(found)


def _key(job: StoredJob, name: str) -> JobKey:
    kind, _, plain = name.partition("/")
    return JobKey(job.namespace, kind, plain)
