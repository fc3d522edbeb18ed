"""Pods of an attempt: a head that drives and does not train, and workers that train. And before it, a preflight's."""

from collections.abc import Iterable
from typing import Final

from pretune_api.compute import EnvVar, Resources, Volume
from pretune_api.names import DESK_FILE_VARIABLE, DESK_PORT, DISK_VARIABLE, PROGRESS_PORT
from pretune_api.run_config import RunConfig
from pretune_api.tracking import TrackerSecretRef, Tracking
from pretune_operator.images import image_of
from pretune_operator.job import JobView
from pretune_operator.naming import (
    HEAD_CONTAINER,
    PREFLIGHT_CONTAINER,
    WORKER_CONTAINER,
    Manifest,
    attempt_labels,
    preflight_labels,
)
from pretune_operator.network import DASHBOARD_PORT
from pretune_operator.settings import RESOURCES, Placement, Pool, Settings
from pretune_operator.stores import credentials

CONFIG_FOLDER: Final = "/etc/pretune"
"""Where head and preflight find the run config."""

_USER: Final = 65532
"""`nonroot` of many base images, and the trainer image's own."""
_HOME: Final = "/tmp"  # noqa: S108  # an emptyDir of the pod's own: the root is read-only
_DESK_FILE: Final = f"{_HOME}/pretune-desk"
_RUN_CONFIG: Final = "pretune.dev/run-config"
"""Annotation of a preflight's pod."""
_HEAD_SHARED_MEMORY: Final = "256Mi"
_HEAD_DELAY: Final = 15
"""Seconds by which each step of a head's termination follows the same step of a worker's."""

# Ray's defaults of 1 to 5 s kill pods of machines that are merely busy. The path and port are those of Ray's own.
_HEALTH: Final[Manifest] = {"httpGet": {"path": "/api/healthz", "port": 52365}, "timeoutSeconds": 15}
_READINESS: Final[Manifest] = {**_HEALTH, "periodSeconds": 5, "failureThreshold": 12}
_LIVENESS: Final[Manifest] = {**_HEALTH, "initialDelaySeconds": 60, "periodSeconds": 20, "failureThreshold": 15}
_PROBES: Final[Manifest] = {"readinessProbe": _READINESS, "livenessProbe": _LIVENESS}

# Pod Security "restricted", and a read-only root beside it.
_POD_SECURITY: Final[Manifest] = {
    "runAsNonRoot": True,
    "runAsUser": _USER,
    "runAsGroup": _USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_CONTAINER_SECURITY: Final[Manifest] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def head_pod(job: JobView, number: int, settings: Settings, config_map: str) -> Manifest:
    """The template of the head pod of attempt `number`; its run config is in the ConfigMap of that name."""
    head = settings.head
    seconds = settings.drain_seconds
    # Deleting a RayJob stops its driver first: the default, 3 s, is too short for a last checkpoint.
    env = [
        {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": str(seconds)},
        *credentials(job.spec.storage.secret_ref),  # for the driver's log: it may be all that a failed attempt leaves
        *_variables(head, job),
    ]
    container = _container(HEAD_CONTAINER, job, settings, env) | {
        "resources": _resources(_amounts(head.resources)),
        "ports": [
            {"name": "gcs-server", "containerPort": 6379},
            {"name": "dashboard", "containerPort": DASHBOARD_PORT},
            {"name": "metrics", "containerPort": PROGRESS_PORT},
            {"name": "desk", "containerPort": DESK_PORT},
        ],
        "lifecycle": _drain(seconds + _HEAD_DELAY, "--linger", str(_HEAD_DELAY // 2)),
        **_PROBES,
    }
    spec = _pod(job, container, head, _HEAD_SHARED_MEMORY)
    _mount(spec, "config", CONFIG_FOLDER, {"configMap": {"name": config_map}})
    # A head that starts again has forgotten its cluster and its job.
    spec |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": seconds + 2 * _HEAD_DELAY}
    return _template(job, attempt_labels(job, number), head.annotations, spec)


def worker_pod(job: JobView, number: int, pool: Pool, settings: Settings) -> Manifest:
    """The template of the worker pods of attempt `number`."""
    compute = job.spec.compute
    env: list[Manifest] = [
        {"name": DESK_FILE_VARIABLE, "value": _DESK_FILE},
        {"name": DISK_VARIABLE, "valueFrom": {"resourceFieldRef": {"resource": "limits.ephemeral-storage"}}},
        *credentials(job.spec.storage.secret_ref),
        *_credentials_of_tracker(job.spec.tracking),
        *_variables(pool, job),
    ]
    gpus = {pool.gpu_resource: str(compute.gpus_per_worker)} if compute.gpus_per_worker else {}
    amounts = _amounts(pool.resources, compute.resources) | pool.extended_resources | gpus
    container = _container(WORKER_CONTAINER, job, settings, env) | {
        "resources": _resources(amounts),
        "lifecycle": _drain(settings.drain_seconds),
        **_PROBES,
    }
    spec = _pod(job, container, pool, compute.shared_memory or pool.shared_memory)
    _mount_claims(spec, compute.volumes)
    spec |= {"terminationGracePeriodSeconds": settings.drain_seconds}
    if pool.runtime_class_name:
        spec["runtimeClassName"] = pool.runtime_class_name
    return _template(job, attempt_labels(job, number), pool.annotations, spec)


def preflight_pod(job: JobView, number: int, config: RunConfig, settings: Settings) -> Manifest:
    """The template of the pod of preflight `number`: where a head would run, with what a head is given."""
    head = settings.head
    env = [*credentials(job.spec.storage.secret_ref), *_variables(head, job)]
    container = _container(PREFLIGHT_CONTAINER, job, settings, env) | {
        "command": ["python", "-m", "pretune_trainer.preflight", f"{CONFIG_FOLDER}/{RunConfig.FILE_NAME}"],
        "resources": _resources(_amounts(head.resources)),
        # Of one that breaks before it has findings, the end of its log says why.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    spec = _pod(job, container, head, _HEAD_SHARED_MEMORY)
    # No ConfigMap: an attempt's is never changed, and spec.compute may be before the attempt is made.
    shown = {"path": RunConfig.FILE_NAME, "fieldRef": {"fieldPath": f"metadata.annotations['{_RUN_CONFIG}']"}}
    _mount(spec, "config", CONFIG_FOLDER, {"downwardAPI": {"items": [shown]}})
    _mount_claims(spec, job.spec.compute.volumes)
    annotations = head.annotations | {_RUN_CONFIG: config.told()}
    return _template(job, preflight_labels(job, number), annotations, spec | {"restartPolicy": "Never"})


def _template(job: JobView, labels: dict[str, str], annotations: dict[str, str], spec: Manifest) -> Manifest:
    metadata = {"labels": job.spec.compute.labels | labels}
    return {"metadata": metadata | ({"annotations": annotations} if annotations else {}), "spec": spec}


def _pod(job: JobView, container: Manifest, placement: Placement, shared_memory: str) -> Manifest:
    compute = job.spec.compute
    optional = {
        "nodeSelector": placement.node_selector,
        "tolerations": [toleration.model_dump(exclude_none=True) for toleration in placement.tolerations],
        "imagePullSecrets": [secret.model_dump() for secret in compute.image_pull_secrets],
        "serviceAccountName": compute.service_account_name,
        "priorityClassName": compute.priority_class_name,
    }
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # The first process of a namespace ignores SIGTERM until it has a handler, which Ray has once it has started:
        # a pod that is deleted before would hold its machine for all of the grace period.
        "shareProcessNamespace": True,
        "securityContext": _POD_SECURITY,
        "containers": [container],
        "volumes": [
            {"name": "home", "emptyDir": {}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory}},
        ],
        **{field: value for field, value in optional.items() if value},
    }


def _container(name: str, job: JobView, settings: Settings, env: Iterable[Manifest]) -> Manifest:
    variables = [{"name": "HOME", "value": _HOME}, *env]
    return {
        "name": name,
        "image": image_of(job, settings),
        "imagePullPolicy": settings.images.pull_policy,
        # Of two variables of one name the later one counts: the job's own has the last word.
        "env": list({variable["name"]: variable for variable in variables}.values()),
        "securityContext": _CONTAINER_SECURITY,
        "volumeMounts": [{"name": "home", "mountPath": _HOME}, {"name": "shared-memory", "mountPath": "/dev/shm"}],  # noqa: S108
    }


def _mount_claims(spec: Manifest, volumes: list[Volume]) -> None:
    """Mount claims into a pod that reads data or models: a head does not.

    They are read-only: then no kubelet changes owners in them, and a claim that allows nothing else will do.
    """
    for number, volume in enumerate(volumes):
        claim = {"persistentVolumeClaim": {"claimName": volume.claim, "readOnly": True}}
        _mount(spec, f"claim-{number}", volume.mount_path, claim)


def _mount(spec: Manifest, name: str, path: str, source: Manifest) -> None:
    """Mount a volume into a pod's container, read-only."""
    [container] = spec["containers"]
    spec["volumes"].append({"name": name, **source})
    container["volumeMounts"].append({"name": name, "mountPath": path, "readOnly": True})


def _variables(placement: Placement, job: JobView) -> list[Manifest]:
    """The administrator's variables, and the job's."""
    return [_variable(variable) for variable in (*placement.env, *job.spec.compute.env)]


def _variable(variable: EnvVar) -> Manifest:
    if variable.secret_key_ref is None:
        return {"name": variable.name, "value": variable.value}
    return {"name": variable.name, "valueFrom": {"secretKeyRef": variable.secret_key_ref.model_dump()}}


def _credentials_of_tracker(tracking: Tracking | None) -> list[Manifest]:
    """Variables for each key that the Secret may have; none is missed, because no tracker holds up a job."""
    secret = tracking and tracking.mlflow and tracking.mlflow.secret_ref
    if not secret:
        return []
    return [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": key, "optional": True}}}
        for key in TrackerSecretRef.KEYS
    ]


def _amounts(*said: Resources) -> dict[str, str]:
    """What is asked for; what is said later has the last word, and of what nobody says there is RESOURCES."""
    amounts: dict[str, str] = {}
    for each in (RESOURCES, *said):
        found = {"cpu": each.cpu, "memory": each.memory, "ephemeral-storage": each.ephemeral_storage}
        amounts |= {name: amount for name, amount in found.items() if amount is not None}
    return amounts


def _resources(amounts: dict[str, str]) -> Manifest:
    """Requests equal to limits, so that no pod is evicted for more than it asked for; but no limit on CPU, because a
    rank that is throttled holds up all others in their next collective."""
    return {"requests": amounts, "limits": {name: amount for name, amount in amounts.items() if name != "cpu"}}


def _drain(seconds: int, *more: str) -> Manifest:
    command = ["python", "-m", "pretune_trainer.drive.drain", "--seconds", str(seconds), *more]
    return {"preStop": {"exec": {"command": command}}}
