"""The kinds of resources that the operator watches or makes, and where the API server serves them."""

from dataclasses import dataclass
from typing import Final

from pretune_api.names import GROUP, VERSION, Label


@dataclass(frozen=True)
class Resource:
    """A kind of resource of the Kubernetes API."""

    group: str
    """Empty for the core group."""
    version: str
    plural: str
    kind: str

    def path(self, namespace: str | None = None, name: str | None = None, part: str | None = None) -> str:
        """Path of all its resources, those of a namespace, one of them, or a subresource."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        where = f"{root}/namespaces/{namespace}" if namespace else root
        return "/".join(step for step in (where, self.plural, name, part) if step)


PRETRAIN_JOBS: Final = Resource(GROUP, VERSION, "pretrainjobs", "PretrainJob")
FINETUNE_JOBS: Final = Resource(GROUP, VERSION, "finetunejobs", "FinetuneJob")
RAY_JOBS: Final = Resource("ray.io", "v1", "rayjobs", "RayJob")
RAY_CLUSTERS: Final = Resource("ray.io", "v1", "rayclusters", "RayCluster")
BATCH_JOBS: Final = Resource("batch", "v1", "jobs", "Job")
"""Kubernetes' own, which preflights are."""
PODS: Final = Resource("", "v1", "pods", "Pod")
CONFIG_MAPS: Final = Resource("", "v1", "configmaps", "ConfigMap")
NODES: Final = Resource("", "v1", "nodes", "Node")
EVENTS: Final = Resource("events.k8s.io", "v1", "events", "Event")
NETWORK_POLICIES: Final = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")

JOBS: Final = {resource.kind: resource for resource in (PRETRAIN_JOBS, FINETUNE_JOBS)}
"""Both kinds of jobs, by kind."""
CHILDREN: Final = (RAY_JOBS, RAY_CLUSTERS, BATCH_JOBS, PODS)
"""What belongs to jobs, and is watched."""
WATCHED: Final = (*JOBS.values(), *CHILDREN)
MADE: Final = {resource.kind: resource for resource in (CONFIG_MAPS, NETWORK_POLICIES, RAY_JOBS, BATCH_JOBS)}
"""What is made for jobs, by kind."""

OURS: Final = str(Label.UID)
"""Label selector of what belongs to jobs."""


def selector(resource: Resource) -> str | None:
    """Label selector of the resources of a kind that concern the operator; None where all do."""
    return OURS if resource in CHILDREN else None
