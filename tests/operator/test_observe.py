"""From what is remembered of the cluster to what a decision is made from."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pretune_operator.causes import lost_head
from pretune_operator.cluster.cache import Cache
from pretune_operator.cluster.kinds import BATCH_JOBS, FINETUNE_JOBS, PODS, RAY_CLUSTERS, RAY_JOBS, Resource
from pretune_operator.cluster.objects import JobKey, StoredJob, StoredPod, StoredRayJob
from pretune_operator.cluster.observe import observe
from pretune_operator.cluster.parse import parse
from pretune_operator.observed import Cluster, Observed, ParentState, SeenAttempt, SeenPod, SeenProgress

Json = dict[str, Any]

NOW = datetime(2026, 1, 1, 1, tzinfo=UTC)
CLUSTER = "ptj-a-1-abcde"
LIMITS = {"memory": "4Gi", "nvidia.com/gpu": "8", "vpc.amazonaws.com/efa": "4"}
WORKERS = {
    "replicas": 2,
    "rayStartParams": {"num-gpus": "8"},
    "template": {"spec": {"containers": [{"resources": {"limits": LIMITS}}]}},
}
KILLED = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
COMPLETED = {"terminated": {"reason": "Completed", "exitCode": 0}}
BACKOFF = {"reason": "CrashLoopBackOff", "message": "back-off"}
HEAD = {"spec": {"containers": [{"name": "ray-head", "image": "pretrain:1"}, {"name": "mesh", "image": "mesh:7"}]}}
RAY_JOB: Json = {
    "spec": {"rayClusterSpec": {"headGroupSpec": {"template": HEAD}, "workerGroupSpecs": [WORKERS]}},
    "status": {"jobDeploymentStatus": "Running", "rayClusterName": CLUSTER},
}


def unready_since(moment: datetime) -> list[Json]:
    """What is written of a pod whose kubelet has not been heard of for a while."""
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": moment.isoformat()}
    return [ready, {"type": "ContainersReady", "status": "True"}]


UNREADY = unready_since(NOW)
LEAVING = {"deletionTimestamp": (NOW + timedelta(minutes=1)).isoformat()}


@pytest.fixture
def cache() -> Cache:
    return Cache()


def put(cache: Cache, resource: Resource, name: str, **content: Any) -> None:
    stored = parse(resource, described(name) | content)
    assert stored is not None
    cache.put(stored)


def described(name: str, **more: Any) -> Json:
    meta = {"namespace": "team", "name": name, "uid": name, "resourceVersion": "1"}
    labels = {"pretune.dev/uid": "a", "pretune.dev/attempt": "1"}
    created = {"creationTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": [{"uid": "a"}]}
    return {"metadata": meta | created | {"labels": labels} | more}


def put_pod(
    cache: Cache,
    name: str,
    kind: str,
    cluster: str = CLUSTER,
    meta: Json | None = None,
    node: str = "node-1",
    **status: Any,
) -> StoredPod:
    content = described(name, **(meta or {}))
    content["metadata"]["labels"] |= {"ray.io/cluster": cluster, "ray.io/node-type": kind}
    spec = {"spec": {"nodeName": node}, "status": {"phase": "Running"} | status}
    stored = parse(PODS, content | spec)
    assert isinstance(stored, StoredPod)
    cache.put(stored)
    return stored


def put_job(cache: Cache, name: str, parent: str | None = None, **status: Any) -> StoredJob:
    source = {"model": {"from": {"finetuneJob": parent}}} if parent else {}
    put(cache, FINETUNE_JOBS, name, spec=source, status=status)
    stored = cache.job(JobKey("team", "FinetuneJob", name))
    assert stored is not None
    return stored


def seen(
    cache: Cache, job: StoredJob, lost: bool | None = False, progress: SeenProgress | None = None, heard: bool = False
) -> Observed:
    return observe(job, cache, Cluster(), lambda node: lost, lambda *_: progress, lambda cluster: heard, NOW)


def attempt(cache: Cache, lost: bool = False) -> SeenAttempt:
    return seen(cache, put_job(cache, "a"), lost).attempts[1]


def test_what_somebody_wrote_by_hand_under_our_labels_is_left_out() -> None:
    ours = json.dumps(described("ptj-a-1") | RAY_JOB)
    assert parse(RAY_JOBS, json.loads(ours)) is not None
    assert parse(RAY_JOBS, json.loads(ours.replace('"8"', '"500m"'))) is None


def test_an_attempt_is_its_ray_job_its_cluster_and_its_pods(cache: Cache) -> None:
    put(cache, RAY_JOBS, "ptj-a-1", **RAY_JOB)
    put(cache, RAY_CLUSTERS, CLUSTER)
    put_pod(cache, "head", "head", podIP="10.0.0.1")
    put_pod(cache, "worker", "worker")
    found = attempt(cache)
    assert (found.ray_job, found.ray_cluster, found.deployment_status) == ("ptj-a-1", CLUSTER, "Running")
    assert found.gpus == 16, "devices that are no GPUs are not counted"
    assert found.image == "pretrain:1"
    assert found.head is not None
    assert found.head.ip == "10.0.0.1"
    assert [worker.name for worker in found.workers] == ["worker"]


def test_why_a_head_has_failed_is_seen_though_kuberay_has_deleted_it_at_once(cache: Cache) -> None:
    job = put_job(cache, "a")
    put(cache, RAY_JOBS, "ptj-a-1", **RAY_JOB)
    killed = [{"name": "ray-head", "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]
    long_ago = {"deletionTimestamp": (NOW - timedelta(hours=1)).isoformat()}
    cache.remove(put_pod(cache, "head", "head", meta=long_ago, phase="Failed", containerStatuses=killed))
    put_pod(cache, "worker", "worker")
    put_pod(cache, "old-head", "head", cluster="ptj-a-1-older")
    assert lost_head(seen(cache, job).attempts[1])[0] == "OutOfMemory"
    assert not seen(cache, job).attempts[1].is_leaving
    put_pod(cache, "new-head", "head")
    assert seen(cache, job).attempts[1].head == SeenPod("new-head", "Running", node="node-1")


def test_a_head_that_has_failed_keeps_no_attempt_in_view_whose_ray_job_is_gone(cache: Cache) -> None:
    job = put_job(cache, "a")
    cache.remove(put_pod(cache, "head", "head", phase="Failed"))
    assert seen(cache, job).attempts == {}


def test_pods_of_an_earlier_cluster_of_the_ray_job_do_not_count(cache: Cache) -> None:
    put(cache, RAY_JOBS, "ptj-a-1", **RAY_JOB)
    put_pod(cache, "old-head", "head", cluster="ptj-a-1-older")
    assert attempt(cache).head is None


def test_a_driver_that_failed_is_heard_through_kuberay_where_its_board_is_not(cache: Cache) -> None:
    said = {"exitCode": 1, "cause": "OutOfMemory", "message": "host: a worker was killed"}
    status = {
        "jobDeploymentStatus": "Failed",
        "jobStatus": "FAILED",
        "message": f"logs:\n{json.dumps({'ending': said})}",
    }
    put(cache, RAY_JOBS, "ptj-a-1", **RAY_JOB | {"status": status})
    found = attempt(cache).ending
    assert found is not None
    assert (found.cause, found.message) == ("OutOfMemory", "host: a worker was killed")


@pytest.mark.parametrize(
    ("state", "ended"),
    [
        ({"running": {}}, (None, None, None)),
        ({"terminated": {"exitCode": 0, "reason": "Completed", "message": "found"}}, (0, "Completed", "found")),
    ],
)
def test_a_preflight_ends_with_its_own_container_and_not_with_one_that_a_mesh_has_added(
    cache: Cache, state: Json, ended: tuple[Any, ...]
) -> None:
    labels = {"labels": {"pretune.dev/uid": "a", "pretune.dev/preflight": "1"}}
    first = {"name": "istio-init", "state": {"terminated": {"exitCode": 1, "reason": "Error", "message": "retried"}}}
    others = [{"name": "preflight", "state": state}, {"name": "istio-proxy", "state": {"running": {}}}]
    put(cache, BATCH_JOBS, "preflight", **described("preflight", **labels))
    status = {"phase": "Running", "initContainerStatuses": [first], "containerStatuses": others}
    put(cache, PODS, "pod", **described("pod", **labels), status=status)
    pod = seen(cache, put_job(cache, "a")).preflights[1].pod
    assert pod is not None
    assert (pod.exit_code, pod.terminated_reason, pod.message) == ended


def test_when_kuberay_found_a_ray_job_complete_is_read(cache: Cache) -> None:
    status = {"jobDeploymentStatus": "Complete", "endTime": "2026-01-01T01:00:00Z"}
    put(cache, RAY_JOBS, "ptj-a-1", **RAY_JOB | {"status": status})
    assert attempt(cache).end == datetime(2026, 1, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("owners", "orphan"), [([], CLUSTER), ([{"uid": "ptj-a-1"}], None)])
def test_a_ray_cluster_is_an_orphan_once_its_ray_job_is_gone_and_no_owner_takes_it_along(
    cache: Cache, owners: list[Json], orphan: str | None
) -> None:
    put(cache, RAY_CLUSTERS, CLUSTER, **described(CLUSTER, ownerReferences=owners))
    put_pod(cache, "worker", "worker")
    assert (attempt(cache).deleting, attempt(cache).orphan) == (True, orphan)


def test_an_orphan_that_is_being_deleted_is_not_deleted_again(cache: Cache) -> None:
    put(cache, RAY_CLUSTERS, CLUSTER, **described(CLUSTER, ownerReferences=[], **LEAVING))
    put_pod(cache, "worker", "worker")
    assert attempt(cache).orphan is None


def test_an_attempt_is_seen_until_its_last_pod_is_gone(cache: Cache) -> None:
    put_pod(cache, "worker", "worker")
    found = attempt(cache)
    assert (found.deleting, found.ray_job, len(found.workers)) == (True, "ptj-a-1", 1)


def test_why_pods_cannot_be_made_is_said_in_the_api_servers_words(cache: Cache) -> None:
    put(cache, RAY_JOBS, "ptj-a-1", **RAY_JOB)
    failed = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpus"}
    put(cache, RAY_CLUSTERS, CLUSTER, status={"conditions": [failed]})
    assert attempt(cache).cluster_problem == "exceeded quota: gpus"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1"}]},
            {"unschedulable": "0/1"},
        ),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]},
            {"waiting_reason": "ImagePullBackOff", "waiting_message": "no such image"},
        ),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}, {"waiting_reason": None}),
        (
            {"containerStatuses": [{"name": "ray-head", "lastState": KILLED}]},
            {"terminated_reason": "OOMKilled", "exit_code": 137},
        ),
        (
            {"initContainerStatuses": [{"name": "wait-gcs-ready", "lastState": KILLED, "state": COMPLETED}]},
            {"terminated_reason": None, "exit_code": None, "waiting_reason": None},
        ),
        (
            {"initContainerStatuses": [{"name": "wait-gcs-ready", "lastState": KILLED, "state": {"waiting": BACKOFF}}]},
            {
                "terminated_reason": None,
                "waiting_reason": "CrashLoopBackOff",
                "waiting_message": "back-off (it ended before: OOMKilled, exit code 137)",
            },
        ),
        (
            {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]},
            {"disruption": "EvictionByEvictionAPI"},
        ),
        ({"phase": "Failed", "reason": "Evicted"}, {"disruption": "Evicted"}),
    ],
)
def test_what_became_of_a_pod_is_read_from_its_status(cache: Cache, status: Json, expected: Json) -> None:
    put_pod(cache, "head", "head", **status)
    head = attempt(cache).head
    assert head is not None
    assert replace(head, **expected) == head


def test_a_pod_that_is_not_ready_while_its_containers_are_is_on_a_node_that_may_be_lost(cache: Cache) -> None:
    put_pod(cache, "head", "head", conditions=UNREADY)
    assert is_lost(cache, lost=True)
    assert not is_lost(cache, lost=False)


@pytest.mark.parametrize(("minutes", "heard", "lost"), [(4, False, False), (6, False, True), (6, True, False)])
def test_where_nodes_may_not_be_read_one_is_lost_once_its_silence_is_as_long_as_kubernetes_tolerates(
    cache: Cache, minutes: int, heard: bool, lost: bool
) -> None:
    put(cache, RAY_JOBS, "ptj-a-1", **RAY_JOB)
    put_pod(cache, "head", "head", conditions=unready_since(NOW - timedelta(minutes=minutes)))
    head = seen(cache, put_job(cache, "a"), lost=None, heard=heard).attempts[1].head
    assert head is not None
    assert head.node_lost is lost


@pytest.mark.parametrize(("heard", "meta", "lost"), [(True, {}, False), (False, {}, True), (True, LEAVING, True)])
def test_a_head_that_answers_is_not_lost_with_a_kubelet_that_is_silent(
    cache: Cache, heard: bool, meta: Json, lost: bool
) -> None:
    put(cache, RAY_JOBS, "ptj-a-1", **RAY_JOB)
    put_pod(cache, "head", "head", meta=meta, conditions=UNREADY)
    head = seen(cache, put_job(cache, "a"), lost=True, heard=heard).attempts[1].head
    assert head is not None
    assert head.node_lost is lost


def test_nobody_asks_for_the_node_of_a_pod_that_is_ready(cache: Cache) -> None:
    put_pod(cache, "head", "head", conditions=[{"type": "Ready", "status": "True"}])
    assert not is_lost(cache, lost=True)


@pytest.mark.parametrize(
    ("state", "ray_job", "head", "last"),
    [
        ("Running", {}, {}, False),
        ("Complete", {}, {}, True),
        ("Failed", {}, {}, True),
        ("Running", LEAVING, {}, True),
        ("Running", {}, LEAVING, True),
    ],
)
def test_a_head_that_is_about_to_go_is_asked_for_its_last_word(
    cache: Cache, state: str, ray_job: Json, head: Json, last: bool
) -> None:
    status = RAY_JOB["status"] | {"jobDeploymentStatus": state}
    put(cache, RAY_JOBS, "ptj-a-1", **RAY_JOB | described("ptj-a-1", **ray_job) | {"status": status})
    put_pod(cache, "head", "head", meta=head)
    asked: list[bool] = []

    def read(_: StoredRayJob, head: SeenPod | None, ending: bool) -> None:
        asked.append(ending)

    observe(put_job(cache, "a"), cache, Cluster(), lambda node: False, read, lambda cluster: False, NOW)
    assert asked == [last]


@pytest.mark.parametrize(("overdue", "stuck"), [(-60, False), (60, False), (180, True)])
@pytest.mark.parametrize("phase", ["Pending", "Running"])
def test_a_pod_that_does_not_leave_in_time_counts_as_lost_with_its_node(
    cache: Cache, phase: str, overdue: int, stuck: bool
) -> None:
    leaves_by = (NOW - timedelta(seconds=overdue)).isoformat()
    put_pod(cache, "head", "head", meta={"deletionTimestamp": leaves_by}, phase=phase)
    found = attempt(cache)
    assert found.head is not None
    assert found.head.may_work is not stuck


@pytest.mark.parametrize(("state", "asked"), [("Running", ["head"]), ("Failed", ["head", "worker-1", "worker-2"])])
def test_the_nodes_of_workers_are_asked_for_once_their_attempt_has_ended(
    cache: Cache, state: str, asked: list[str]
) -> None:
    status = RAY_JOB["status"] | {"jobDeploymentStatus": state}
    put(cache, RAY_JOBS, "ptj-a-1", **RAY_JOB | {"status": status})
    for name in ("head", "worker-1", "worker-2"):
        put_pod(cache, name, name.partition("-")[0], node=name, conditions=UNREADY)
    nodes: list[str] = []

    def lost(node: str) -> bool:
        nodes.append(node)
        return True

    observe(put_job(cache, "a"), cache, Cluster(), lost, lambda *_: None, lambda cluster: False, NOW)
    assert nodes == asked


def is_lost(cache: Cache, lost: bool) -> bool:
    head: SeenPod | None = attempt(cache, lost).head
    assert head is not None
    return head.node_lost


def test_a_parent_is_missing_runs_or_has_an_artifact(cache: Cache) -> None:
    artifact = {"uri": "s3://models/b", "digest": f"sha256:{'0' * 64}", "saidByNewerVersions": 1}
    child = put_job(cache, "a", parent="b")
    assert seen(cache, child).parents["FinetuneJob/b"].state is ParentState.MISSING
    put_job(cache, "b", state="Succeeded", artifact=artifact)
    parent = seen(cache, child).parents["FinetuneJob/b"]
    assert (parent.state, parent.artifact and parent.artifact.uri) == (ParentState.SUCCEEDED, "s3://models/b")


def test_ancestors_are_followed_around_a_ring_once(cache: Cache) -> None:
    job = put_job(cache, "a", parent="b")
    put_job(cache, "b", parent="c")
    put_job(cache, "c", parent="a")
    assert set(seen(cache, job).parents["FinetuneJob/b"].parents) == {f"FinetuneJob/{name}" for name in "abc"}
