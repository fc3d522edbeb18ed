"""The operator on a real API server, beside a KubeRay that runs nothing."""

import json
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.process import wait_until
from pretune_api.problems import parse
from pretune_operator.job import JobView
from pretune_operator.naming import attempt_name
from support.fake_kuberay import DIGEST, FakeKubeRay, Play
from support.job_world import Json, World, finetune, pretrain, reason
from support.kube_api import KubeApi
from support.operators import OperatorProcess
from support.specs import changed

FAILS_FIRST, FAILS_ALWAYS = "fails-first", "fails-always"
RUNS, RUNS_FIRST, SILENT_FIRST = "runs", "runs-first", "silent-first"
"""Names of jobs that do not succeed at once."""
THEIRS = {"app": "theirs"}
"""Labels of somebody else's pods."""


def plays(job: str, attempt: int) -> Play:
    if job == RUNS or (job == RUNS_FIRST and attempt == 1):
        return Play.RUNS
    if job == SILENT_FIRST and attempt == 1:
        return Play.SILENT
    return Play.FAILS if job == FAILS_ALWAYS or (job == FAILS_FIRST and attempt == 1) else Play.SUCCEEDS


@pytest.fixture(scope="module")
def kuberay(plane: ControlPlane) -> Iterator[FakeKubeRay]:
    with FakeKubeRay(KubeApi(plane.kubeconfig), plays) as kuberay:
        yield kuberay


@pytest.fixture(scope="module")
def operator(
    plane: ControlPlane, kuberay: FakeKubeRay, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    with OperatorProcess(tmp_path_factory.mktemp("operator"), plane.kubeconfig) as operator:
        yield operator


@pytest.fixture
def world(api: KubeApi, namespace: str, operator: OperatorProcess) -> World:
    return World(api, namespace)


def test_a_job_becomes_a_ray_job_and_its_artifact_is_published(world: World) -> None:
    job = pretrain()
    world.apply(job)
    status = world.until_condition(job, "Finished")["status"]
    assert status["state"] == "Succeeded"
    assert status["artifact"] == {"uri": "s3://models/general/artifact/0001", "digest": DIGEST}
    assert [attempt["number"] for attempt in status["attempts"]] == [1]
    assert status["metrics"] == {"loss": 2.25}


def test_what_an_attempt_consists_of_belongs_to_its_job(world: World) -> None:
    job = pretrain()
    uid = world.apply(job)["metadata"]["uid"]
    world.until_condition(job, "Finished")
    made = [*world.ray_jobs(), *world.items("configmaps"), *world.items("networkpolicies", "networking.k8s.io/v1")]
    assert [kind["metadata"]["ownerReferences"][0]["uid"] for kind in made] == [uid, uid, uid]


def test_the_ray_cluster_goes_once_the_artifact_is_published(world: World) -> None:
    job = pretrain()
    world.apply(job)
    world.until_condition(job, "Finished")
    (ray_job,) = world.ray_jobs()
    assert ray_job["status"]["rayClusterName"], "there was one to go"
    clusters = f"/apis/ray.io/v1/namespaces/{world.namespace}/rayclusters"
    wait_until(
        lambda: all("deletionTimestamp" in cluster["metadata"] for cluster in world.api.items(clusters)),
        "the Ray cluster is deleted",
    )


def test_a_job_waits_for_the_one_that_it_starts_from(world: World) -> None:
    child, parent = finetune(), pretrain()
    world.apply(child)
    waiting = world.until_condition(child, "InputsResolved", "False")["status"]
    assert (waiting["state"], reason(waiting, "InputsResolved")) == ("Waiting", "ParentMissing")
    assert world.ray_jobs() == []
    world.apply(parent)
    status = world.until_condition(child, "Finished")["status"]
    artifact = world.job(parent)["status"]["artifact"]
    assert status["state"] == "Succeeded"
    assert status["inputs"] == [{"job": "PretrainJob/general", **artifact}]


def test_jobs_that_start_from_each_other_are_told_so(world: World) -> None:
    one = finetune("one", model={"from": {"finetuneJob": "other"}})
    other = finetune("other", model={"from": {"finetuneJob": "one"}})
    world.apply(one)
    world.apply(other)
    for job in (one, other):
        assert reason(world.until_condition(job, "Failed")["status"], "InputsResolved") == "ParentCycle"


def test_a_failure_is_followed_by_another_attempt(world: World, kuberay: FakeKubeRay) -> None:
    job = pretrain(FAILS_FIRST)
    world.apply(job)
    status = world.until_condition(job, "Finished")["status"]
    assert status["state"] == "Succeeded"
    first, second = status["attempts"]
    assert (first["cause"], first["message"], second.get("cause")) == ("Unknown", "it broke", None)
    assert set(made(kuberay, world).values()) == {1}
    assert {label_of_attempt(found) for found in leftovers(world)} == {"2"}


@pytest.mark.parametrize("job", [pretrain(), pretrain(RUNS, activeDeadlineSeconds=1)], ids=["succeeds", "is stopped"])
def test_a_time_to_live_leaves_the_job_alone(world: World, job: Json) -> None:
    world.apply(changed(job, {"spec.ttlSecondsAfterFinished": 0}))
    finished = world.until_condition(job, "Finished")
    wait_until(lambda: world.ray_jobs() == leftovers(world) == [], "what it consisted of is gone")
    assert world.job(job)["metadata"]["uid"] == finished["metadata"]["uid"]


def leftovers(world: World) -> list[Json]:
    """What attempts were given, beside their RayJobs."""
    policies = world.items("networkpolicies", "networking.k8s.io/v1")
    return [found for found in [*world.items("configmaps"), *policies] if "labels" in found["metadata"]]


def label_of_attempt(made: Json) -> str:
    number: str = made["metadata"]["labels"]["pretune.dev/attempt"]
    return number


def test_a_job_fails_when_its_retries_are_used_up(world: World) -> None:
    job = pretrain(FAILS_ALWAYS, failurePolicy={"backoffSeconds": 0, "retries": {"unknown": 1}})
    world.apply(job)
    status = world.until_condition(job, "Failed")["status"]
    assert (status["attemptCount"], reason(status, "Failed")) == (2, "Unknown")
    world.change(job, retry=1)
    status = world.until(job, lambda said: said.get("attemptCount") == 4, "retry gives it two more attempts")["status"]


def test_a_suspended_job_gives_its_ray_job_up_and_resumes_with_another(world: World) -> None:
    job = pretrain(RUNS_FIRST)
    world.apply(job)
    world.until_condition(job, "Running")
    world.change(job, suspend=True)
    world.until_condition(job, "Suspended")
    wait_until(lambda: world.ray_jobs() == [], "its RayJob is gone")
    world.change(job, suspend=False)
    status = world.until_condition(job, "Finished")["status"]
    assert (status["state"], status["attemptCount"]) == ("Succeeded", 2)


def test_a_lost_head_ends_the_attempt_though_kuberay_says_running(world: World, kuberay: FakeKubeRay) -> None:
    job = pretrain(RUNS_FIRST)
    world.apply(job)
    world.until_condition(job, "Running")
    (head,) = world.api.items(f"{world.pods}?labelSelector=ray.io/node-type=head")
    world.api.delete(f"{world.pods}/{head['metadata']['name']}", gracePeriodSeconds=0)
    status = world.until_condition(job, "Finished")["status"]
    assert [attempt.get("cause") for attempt in status["attempts"]] == ["HeadLost", None]
    assert set(made(kuberay, world).values()) == {1}


def test_a_lost_node_ends_the_attempt_and_is_named(world: World, kuberay: FakeKubeRay) -> None:
    job = pretrain(SILENT_FIRST)
    world.apply(job)
    world.until_condition(job, "Running")
    (head,) = world.api.items(f"{world.pods}?labelSelector=ray.io/node-type=head")
    name, node = head["metadata"]["name"], "silent"
    world.api.create("/api/v1/nodes", {"metadata": {"name": node}})
    bound = {"metadata": {"name": name}, "target": {"kind": "Node", "name": node}}
    world.api.create(f"{world.pods}/{name}/binding", bound)
    # What the node controller writes when a kubelet has not been heard of for a while.
    unknown, contained = {"type": "Ready", "status": "Unknown"}, {"type": "ContainersReady", "status": "True"}
    world.api.merge(f"/api/v1/nodes/{node}/status", {"status": {"conditions": [unknown]}})
    unready = unknown | {"status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    conditions = [unready, contained]
    world.api.merge(f"{world.pods}/{name}/status", {"status": {"conditions": conditions}})
    first, second = world.until_condition(job, "Finished")["status"]["attempts"]
    assert (first["cause"], second.get("cause")) == ("NodeLost", None)
    assert node in first["message"]
    assert set(made(kuberay, world).values()) == {1}


def test_progress_of_a_running_job_stands_in_its_status(world: World) -> None:
    job = pretrain(RUNS)
    world.apply(job)
    status = world.until(job, lambda said: said.get("progress"), "there is progress")["status"]
    assert status["progress"] == {"step": 5, "total": 10, "percent": 50, "loss": 2.5, "checkpointStep": 4}


def test_a_queue_without_kueue_is_named_as_the_obstacle(world: World) -> None:
    job = pretrain()
    job["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "team-a"}
    world.apply(job)
    status = world.until_condition(job, "QuotaReserved", "False")["status"]
    assert reason(status, "QuotaReserved") == "KueueMissing"


def test_what_only_the_administrator_knows_fails_the_job_with_a_sentence(world: World) -> None:
    job = pretrain(compute={"pool": "none-such"})
    world.apply(job)
    status = world.until_condition(job, "Failed")["status"]
    (failed,) = [said for said in status["conditions"] if said["type"] == "Failed"]
    assert failed["message"].startswith("spec.compute.pool: there is no pool none-such; known pools: gpu")


def test_what_happens_to_a_job_is_told_in_events(world: World) -> None:
    job = pretrain(FAILS_FIRST)
    world.apply(job)
    world.until_condition(job, "Finished")
    wait_until(lambda: "Succeeded" in {event["reason"] for event in world.events()}, "its success is told")
    assert {"AttemptStarted", "AttemptFailed"} <= {event["reason"] for event in world.events()}


def test_something_of_another_owner_under_the_name_of_a_ray_job_is_left_alone(
    world: World, operator: OperatorProcess
) -> None:
    waiting = finetune()
    uid = world.apply(waiting)["metadata"]["uid"]
    taken = {"metadata": {"name": name_of_attempt(waiting, uid)}, "spec": {"podSelector": {"matchLabels": THEIRS}}}
    world.api.create(f"/apis/networking.k8s.io/v1/namespaces/{world.namespace}/networkpolicies", taken)
    world.apply(pretrain())
    wait_until(lambda: "ReconcileFailed" in {event["reason"] for event in world.events()}, "its user is told")
    (told,) = [event["note"] for event in world.events() if event["reason"] == "ReconcileFailed"]
    assert told.startswith(
        f"NetworkPolicy {world.namespace}/{name_of_attempt(waiting, uid)} exists, but does not belong to"
    )
    policies = {item["metadata"]["name"]: item for item in world.items("networkpolicies", "networking.k8s.io/v1")}
    assert policies[name_of_attempt(waiting, uid)]["spec"]["podSelector"]["matchLabels"] == THEIRS


def test_an_attempt_that_a_quota_forbids_is_told_by_status_and_starts_as_the_job_is_by_then(world: World) -> None:
    path = f"/api/v1/namespaces/{world.namespace}/resourcequotas"
    none = {"hard": {"count/rayjobs.ray.io": "0"}}
    world.api.create(path, {"metadata": {"name": "none"}, "spec": none})
    # Nobody counts here.
    world.api.merge(f"{path}/none/status", {"status": none | {"used": {"count/rayjobs.ray.io": "0"}}})
    job = pretrain(compute={"workers": 3})
    world.apply(job)
    told = world.until(job, lambda said: reason(said, "Running") == "Refused", "it is told")["status"]
    assert told["state"] == "Waiting"
    assert "exceeded quota: none" in next(said["message"] for said in told["conditions"] if said["type"] == "Running")
    world.change(job, compute={"workers": 1})
    world.until(job, lambda said: said["observedGeneration"] == 2, "the change is seen")
    world.api.delete(f"{path}/none")
    world.change(job, activeDeadlineSeconds=3600)  # it is looked at before the minute is over, unless the quota lingers
    world.until_condition(job, "Finished", seconds=150)
    (ray_job,) = world.ray_jobs()
    (volume,) = [volume for volume in head(ray_job)["volumes"] if volume["name"] == "config"]
    configs = {found["metadata"]["name"]: found["data"]["run.json"] for found in world.items("configmaps")}
    assert json.loads(configs[volume["configMap"]["name"]])["ranks"] == 1


def head(ray_job: Json) -> Json:
    """The spec of a RayJob's head pod."""
    found: Json = ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    return found


def test_a_deleted_job_is_no_longer_counted(world: World, operator: OperatorProcess) -> None:
    job = pretrain("none", compute={"pool": "none-such"})
    world.apply(job)
    world.until_condition(job, "Failed")
    wait_until(lambda: failed_jobs(operator, world.namespace) == 1, "the job is counted")
    world.delete(job)
    wait_until(lambda: failed_jobs(operator, world.namespace) == 0, "it is no longer counted")


def test_the_operator_is_healthy_and_measures_itself(world: World, operator: OperatorProcess) -> None:
    world.apply(pretrain())
    world.until_condition(pretrain(), "Finished")
    assert operator.says("/healthz") == (200, "ok\n")
    metrics = operator.says("/metrics")[1]
    for name in ("reconcile_seconds_count", "api_calls_total", "queue_depth", "jobs", "reconcile_errors_total"):
        assert f"pretune_operator_{name}" in metrics


def failed_jobs(operator: OperatorProcess, namespace: str) -> float:
    wanted = {"namespace": namespace, "state": "Failed"}.items()
    families = text_string_to_metric_families(operator.says("/metrics")[1])
    samples = [sample for family in families if family.name == "pretune_operator_jobs" for sample in family.samples]
    return sum(sample.value for sample in samples if wanted <= sample.labels.items())


def made(kuberay: FakeKubeRay, world: World) -> dict[str, int]:
    """How often each RayJob of the namespace was made."""
    return {name: times for (namespace, name), times in kuberay.made.items() if namespace == world.namespace}


def name_of_attempt(job: Json, uid: str) -> str:
    return attempt_name(JobView(parse(job), uid, "any", 1), 1)
