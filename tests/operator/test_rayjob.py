"""What an attempt is made of: a RayJob that KubeRay runs once, and pods that meet "restricted"."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pretune_api.names import DESK_FILE_VARIABLE, DISK_VARIABLE, PROGRESS_PORT, Label
from pretune_api.run_config import RunConfig
from pretune_operator.job import JobView
from pretune_operator.pools import device_of
from pretune_operator.rayjob import RAY_VERSION, Manifests, manifests
from support.specs import FINETUNE
from support.views import planned, settings, view

REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "trainer.txt"
LOCAL_MODEL: dict[str, Any] = {"model__from": {"uri": "s3://models/general"}}


def made(job: JobView, number: int = 1, **changes: Any) -> Manifests:
    return manifests(job, planned(job), number, settings(**changes))


def cluster(found: Manifests) -> dict[str, Any]:
    spec: dict[str, Any] = found.ray_job["spec"]["rayClusterSpec"]
    return spec


def head(found: Manifests) -> dict[str, Any]:
    template: dict[str, Any] = cluster(found)["headGroupSpec"]["template"]
    return template


def workers(found: Manifests) -> dict[str, Any]:
    [group] = cluster(found)["workerGroupSpecs"]
    template: dict[str, Any] = group["template"]
    return template


def container(template: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any]
    [container] = template["spec"]["containers"]
    return container


def variables(template: dict[str, Any]) -> dict[str, Any]:
    return {
        variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in container(template)["env"]
    }


def test_kuberay_runs_the_job_once_and_leaves_retries_to_us() -> None:
    spec = made(view(failurePolicy__startDeadlineSeconds=900)).ray_job["spec"]
    assert spec["submissionMode"] == "HTTPMode"
    assert spec["backoffLimit"] == 0
    assert spec["preRunningDeadlineSeconds"] == 900
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] >= 600
    assert not {"jobId", "suspend", "activeDeadlineSeconds", "deletionStrategy"} & set(spec)


def test_a_lost_head_is_not_replaced() -> None:
    found = made(view())
    assert found.ray_job["metadata"]["annotations"] == {"ray.io/disable-provisioned-head-restart": "true"}
    assert head(found)["spec"]["restartPolicy"] == "Never"


def test_everything_of_an_attempt_has_its_number_in_its_name() -> None:
    first, second = made(view(), 1), made(view(), 2)
    names = [[part["metadata"]["name"] for part in attempt.in_order] for attempt in (first, second)]
    assert not set(names[0]) & set(names[1])


def test_the_driver_is_given_the_run_config_that_was_planned() -> None:
    job = view()
    found = made(job)
    assert found.config_map["immutable"] is True
    assert RunConfig.model_validate(json.loads(found.config_map["data"]["run.json"])) == planned(job)
    [volume] = [volume for volume in head(found)["spec"]["volumes"] if "configMap" in volume]
    assert volume["configMap"]["name"] == found.config_map["metadata"]["name"]
    [mount] = [mount for mount in container(head(found))["volumeMounts"] if mount["name"] == volume["name"]]
    entrypoint = found.ray_job["spec"]["entrypoint"]
    assert entrypoint.startswith(f"python -m pretune_trainer.main {mount['mountPath']}/run.json ")


def test_a_run_config_that_was_made_before_the_spec_changed_goes_with_no_ray_job_that_was_made_after() -> None:
    before, again, after = (
        made(view(compute__workers=3)),
        made(view(compute__workers=3)),
        made(view(compute__workers=2)),
    )
    assert before.config_map == again.config_map
    assert before.config_map["metadata"]["name"] != after.config_map["metadata"]["name"]
    assert before.ray_job["metadata"]["name"] == after.ray_job["metadata"]["name"]


def test_all_workers_are_wanted_or_none() -> None:
    [group] = cluster(made(view(compute__workers=3)))["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 3, 3)
    assert "enableInTreeAutoscaling" not in cluster(made(view()))


def test_gpus_go_to_workers_alone() -> None:
    found = made(view(compute__gpusPerWorker=4))
    assert container(workers(found))["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert "nvidia.com/gpu" not in container(head(found))["resources"]["limits"]
    assert cluster(found)["workerGroupSpecs"][0]["rayStartParams"]["num-gpus"] == "4"
    assert cluster(found)["headGroupSpec"]["rayStartParams"]["num-gpus"] == "0"


def test_the_head_trains_nothing() -> None:
    assert cluster(made(view()))["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_a_worker_without_gpus_asks_for_none() -> None:
    found = made(view(compute__gpusPerWorker=0))
    assert "nvidia.com/gpu" not in container(workers(found))["resources"]["requests"]
    assert device_of(view(compute__gpusPerWorker=0).spec.compute) == "cpu"


def test_pools_bring_nodes_and_what_the_job_leaves_open() -> None:
    template = workers(made(view(compute__resources={"cpu": "4"})))
    assert template["spec"]["nodeSelector"] == {"gpu": "a100"}
    assert template["spec"]["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    requests = container(template)["resources"]["requests"]
    assert (requests["cpu"], requests["memory"], requests["ephemeral-storage"]) == ("4", "64Gi", "100Gi")
    assert variables(template)["NCCL_IB_HCA"] == "mlx5"
    assert "NCCL_IB_HCA" not in variables(head(made(view())))


def test_what_a_pool_leaves_out_of_its_resources_is_still_asked_for() -> None:
    asked = container(workers(made(view(), pools={"a100": {"resources": {"cpu": "90"}}})))["resources"]["requests"]
    assert (asked["cpu"], asked["memory"], asked["ephemeral-storage"]) == ("90", "4Gi", "10Gi")


def test_pools_bring_what_else_their_nodes_need() -> None:
    wanted = {
        "annotations": {"karpenter.sh/do-not-disrupt": "true"},
        "runtimeClassName": "nvidia",
        "extendedResources": {"vpc.amazonaws.com/efa": "4"},
    }
    found = made(view(), pools={"a100": wanted})
    template = workers(found)
    assert template["metadata"]["annotations"] == {"karpenter.sh/do-not-disrupt": "true"}
    assert template["spec"]["runtimeClassName"] == "nvidia"
    assert container(template)["resources"]["limits"]["vpc.amazonaws.com/efa"] == "4"
    assert "runtimeClassName" not in head(found)["spec"]
    assert "vpc.amazonaws.com/efa" not in container(head(found))["resources"]["limits"]


def test_a_worker_is_told_how_much_disk_it_may_fill() -> None:
    worker = workers(made(view(compute__resources={"ephemeralStorage": "2Ti"})))
    assert variables(worker)[DISK_VARIABLE] == {"resourceFieldRef": {"resource": "limits.ephemeral-storage"}}
    assert container(worker)["resources"]["limits"]["ephemeral-storage"] == "2Ti"


@pytest.mark.parametrize("pick", [head, workers])
def test_pods_are_limited_to_what_they_ask_for_but_never_throttled(pick: Callable[[Manifests], dict[str, Any]]) -> None:
    resources = container(pick(made(view())))["resources"]
    assert "cpu" in resources["requests"]
    assert resources["limits"] == {name: size for name, size in resources["requests"].items() if name != "cpu"}


def test_what_the_job_says_of_its_machines_reaches_its_pods() -> None:
    compute = {
        "image": "registry.test/mine:2",
        "imagePullSecrets": [{"name": "pull"}],
        "serviceAccountName": "trainer",
        "priorityClassName": "high",
        "labels": {"example.com/cost-centre": "7"},
        "env": [
            {"name": "HF_TOKEN", "secretKeyRef": {"name": "hub", "key": "token"}},
            {"name": "NCCL_IB_HCA", "value": "x"},
        ],
    }
    found = made(view(compute=compute))
    for template in (head(found), workers(found)):
        spec = template["spec"]
        assert container(template)["image"] == "registry.test/mine:2"
        assert spec["imagePullSecrets"] == [{"name": "pull"}]
        assert (spec["serviceAccountName"], spec["priorityClassName"]) == ("trainer", "high")
        assert template["metadata"]["labels"]["example.com/cost-centre"] == "7"
        assert variables(template)["HF_TOKEN"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
        assert variables(template)["NCCL_IB_HCA"] == "x"
        names = [variable["name"] for variable in container(template)["env"]]
        assert len(names) == len(set(names)), "the API server refuses to apply two of one name"


def test_each_kind_has_its_image_which_is_pulled_as_the_administrator_says() -> None:
    images = {"pretrain": "registry.test/pretrain:1", "finetune": "registry.test/finetune:1"}
    for policy in ("Always", "Never"):
        assert container(head(made(view(), images=images | {"pullPolicy": policy})))["imagePullPolicy"] == policy
    assert container(head(made(view())))["image"] == "registry.test/pretrain:1"
    assert container(head(made(view(FINETUNE, **LOCAL_MODEL))))["image"] == "registry.test/finetune:1"


@pytest.mark.parametrize(("given", "size"), [({}, "16Gi"), ({"compute__sharedMemory": "2Gi"}, "2Gi")])
def test_shared_memory_is_the_pools_unless_the_job_says(given: dict[str, Any], size: str) -> None:
    memory = [
        volume["emptyDir"]
        for volume in workers(made(view(**given)))["spec"]["volumes"]
        if volume["name"] == "shared-memory"
    ]
    assert memory == [{"medium": "Memory", "sizeLimit": size}]


@pytest.mark.parametrize("pick", [head, workers])
def test_pods_meet_restricted_and_write_only_to_volumes(pick: Callable[[Manifests], dict[str, Any]]) -> None:
    template = pick(made(view()))
    pod, security = template["spec"], container(template)["securityContext"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["readOnlyRootFilesystem"] is True
    written = {mount["mountPath"] for mount in container(template)["volumeMounts"] if not mount.get("readOnly")}
    assert written == {"/tmp", "/dev/shm"}
    assert variables(template)["HOME"] == "/tmp"


def test_ray_asks_for_a_token() -> None:
    assert cluster(made(view()))["authOptions"] == {"mode": "token"}


def test_a_tracker_s_credentials_come_to_workers_where_there_are_any_and_hold_up_nothing() -> None:
    tracker = {"uri": "https://mlflow.test", "secretRef": {"name": "mlflow"}}
    pod = workers(made(view(tracking={"mlflow": tracker})))
    key = "MLFLOW_TRACKING_TOKEN"
    assert variables(pod)[key] == {"secretKeyRef": {"name": "mlflow", "key": key, "optional": True}}
    assert not any(name.startswith("MLFLOW") for name in variables(workers(made(view()))))


def test_credentials_come_to_workers_and_to_the_driver_by_reference() -> None:
    secret = {"name": "s3", "accessKeyIdKey": "id"}
    found = made(view(storage__secretRef=secret))
    for pod in (workers(found), head(found)):
        assert variables(pod)["AWS_ACCESS_KEY_ID"] == {"secretKeyRef": {"name": "s3", "key": "id"}}
        assert variables(pod)["AWS_SECRET_ACCESS_KEY"] == {
            "secretKeyRef": {"name": "s3", "key": "AWS_SECRET_ACCESS_KEY"}
        }


def test_a_workers_pod_outlives_its_drain_and_the_head_outlives_the_workers() -> None:
    found = made(view(), drainSeconds=90)
    waits = {}
    for name, template in (("head", head(found)), ("workers", workers(found))):
        command = container(template)["lifecycle"]["preStop"]["exec"]["command"]
        assert command[:3] == ["python", "-m", "pretune_trainer.drive.drain"]
        waits[name] = int(command[command.index("--seconds") + 1])
        lingers = int(command[command.index("--linger") + 1]) if name == "head" else 0
        assert template["spec"]["terminationGracePeriodSeconds"] >= waits[name] + lingers
    assert waits["workers"] == 90
    assert waits["head"] > waits["workers"]


def test_a_workers_hook_is_told_where_its_ranks_leave_whom_to_ask_for_a_stop() -> None:
    assert variables(workers(made(view())))[DESK_FILE_VARIABLE].startswith("/tmp/")


@pytest.mark.parametrize("pick", [head, workers])
def test_a_pod_that_is_deleted_before_ray_has_started_holds_its_machine_no_longer(
    pick: Callable[[Manifests], dict[str, Any]],
) -> None:
    """The first process of a namespace ignores SIGTERM until it has a handler; here it is the pause container's."""
    assert pick(made(view()))["spec"]["shareProcessNamespace"] is True


@pytest.mark.parametrize("pick", [head, workers])
def test_a_pod_of_a_machine_that_is_merely_busy_is_not_killed(pick: Callable[[Manifests], dict[str, Any]]) -> None:
    for name, patience in (("readinessProbe", 60), ("livenessProbe", 300)):
        probe = container(pick(made(view())))[name]
        assert probe["httpGet"] == {"path": "/api/healthz", "port": 52365}
        assert probe["timeoutSeconds"] >= 15
        assert probe["periodSeconds"] * probe["failureThreshold"] >= patience


def test_prometheus_finds_a_heads_metrics_by_the_name_of_their_port() -> None:
    ports = {port["name"]: port["containerPort"] for port in container(head(made(view())))["ports"]}
    assert ports["metrics"] == PROGRESS_PORT


def test_a_driver_that_kuberay_stops_has_as_long_as_its_workers() -> None:
    """KubeRay stops the driver of a RayJob that is deleted; Ray kills it, and its ranks, after 3 s by default."""
    assert variables(head(made(view(), drainSeconds=90)))["RAY_JOB_STOP_WAIT_TIME_S"] == "90"


def test_kueues_labels_are_passed_on_and_no_others() -> None:
    job = replace(view(), labels={Label.QUEUE.value: "gold", Label.QUEUE_PRIORITY.value: "high", "team": "a"})
    labels = made(job).ray_job["metadata"]["labels"]
    assert (labels[Label.QUEUE], labels[Label.QUEUE_PRIORITY]) == ("gold", "high")
    assert "team" not in labels


def test_the_ray_that_kuberay_is_told_of_is_the_one_in_the_image() -> None:
    assert f"\nray=={RAY_VERSION} " in REQUIREMENTS.read_text()
