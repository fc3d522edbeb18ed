"""From a run config to what an attempt is made of in Kubernetes: its ConfigMap, its NetworkPolicy, its RayJob. Pure.

Fields are those of KubeRay 1.6 (ray-operator/apis/ray/v1/rayjob_types.go).
"""

from dataclasses import dataclass
from typing import Final

from pretune_api.names import DESK_PORT, PROGRESS_PORT, Label
from pretune_api.run_config import RunConfig
from pretune_operator.job import JobView
from pretune_operator.naming import Manifest, attempt_metadata, named_by_content
from pretune_operator.network import network_policy
from pretune_operator.pods import CONFIG_FOLDER, head_pod, worker_pod
from pretune_operator.pools import pool_of
from pretune_operator.settings import Settings
from pretune_operator.stores import check_stores

RAY_VERSION: Final = "2.60.0"
"""Ray of the trainer images."""

_LAST_RESORT_SECONDS: Final = 3_600
"""Life of a finished Ray cluster while no operator is there to read its last word and delete it."""
_OBJECT_STORE: Final = {"object-store-memory": str(100 << 20)}
"""Bytes: nothing of ours travels through Ray's object store, and 30% of a pod's memory would be kept for it."""
# Older trainers are told this and the hooks of their pods, too: jobs keep their image when the operator is upgraded.
_ENTRYPOINT: Final = (
    f"python -m pretune_trainer.main {CONFIG_FOLDER}/{RunConfig.FILE_NAME}"
    f" --metrics-port {PROGRESS_PORT} --desk-port {DESK_PORT}"
)


@dataclass(frozen=True)
class Manifests:
    """Everything that is made for one attempt. The job owns it all."""

    config_map: Manifest
    """The run config, immutable."""
    network_policy: Manifest | None
    """Who may talk to the attempt's pods; None where the administrator fences pods in otherwise."""
    ray_job: Manifest
    """The RayJob, to be created once and never applied again."""

    @property
    def in_order(self) -> tuple[Manifest, ...]:
        """As they are to be made: whatever the RayJob's pods need is there before them."""
        policies = () if self.network_policy is None else (self.network_policy,)
        return (self.config_map, *policies, self.ray_job)


def manifests(job: JobView, config: RunConfig, number: int, settings: Settings) -> Manifests:
    """Everything that attempt `number` of `job` is made of.

    Raises:
        UnfitError: the job cannot have its pool, or its stores cannot be reached.
    """
    check_stores(job.spec)
    metadata = attempt_metadata(job, number)
    policy = network_policy(metadata, settings) if settings.network_policies else None
    config_map = _config_map(metadata, config)
    return Manifests(config_map, policy, _ray_job(metadata, job, number, settings, config_map["metadata"]["name"]))


def _config_map(metadata: Manifest, config: RunConfig) -> Manifest:
    """Named after what it holds, too: one that was made before the spec changed goes with no RayJob made after."""
    content = config.told(indent=2)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": named_by_content(metadata, content),
        "immutable": True,
        "data": {RunConfig.FILE_NAME: content},
    }


def _ray_job(metadata: Manifest, job: JobView, number: int, settings: Settings, config_map: str) -> Manifest:
    queue = {label.value: job.labels[label] for label in (Label.QUEUE, Label.QUEUE_PRIORITY) if label in job.labels}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": metadata
        | {
            "labels": metadata["labels"] | queue,
            # A new head would know nothing of the job: losing the head ends the attempt.
            "annotations": {"ray.io/disable-provisioned-head-restart": "true"},
        },
        "spec": {
            "submissionMode": "HTTPMode",
            "entrypoint": _ENTRYPOINT,
            # We retry ourselves, by cause; Kueue needs the next two.
            "backoffLimit": 0,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": _LAST_RESORT_SECONDS,
            "preRunningDeadlineSeconds": job.spec.failure_policy.start_deadline_seconds,
            "rayClusterSpec": _ray_cluster(job, number, settings, config_map),
        },
    }


def _ray_cluster(job: JobView, number: int, settings: Settings, config_map: str) -> Manifest:
    return {
        "rayVersion": RAY_VERSION,
        # Without a token whoever reaches the dashboard runs what he likes: CVE-2023-48022.
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            "rayStartParams": {
                "num-cpus": "0",
                "num-gpus": "0",
                "dashboard-host": "0.0.0.0",  # noqa: S104  # KubeRay submits the job to it
                "disable-usage-stats": "true",
                **_OBJECT_STORE,
            },
            "template": head_pod(job, number, settings, config_map),
        },
        "workerGroupSpecs": [_workers(job, number, settings)],
    }


def _workers(job: JobView, number: int, settings: Settings) -> Manifest:
    compute = job.spec.compute
    pool = pool_of(compute, job.namespace, settings)
    return {
        "groupName": "workers",
        "replicas": compute.workers,
        "minReplicas": compute.workers,
        "maxReplicas": compute.workers,
        "rayStartParams": {"num-gpus": str(compute.gpus_per_worker), **_OBJECT_STORE},
        "template": worker_pod(job, number, pool, settings),
    }
