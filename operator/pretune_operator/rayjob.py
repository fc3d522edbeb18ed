"""From a run config to what an attempt is made of in Kubernetes: its ConfigMap, its RayJob, its NetworkPolicies. Pure."""

from dataclasses import dataclass
from typing import Any

from pretune_api.run_config import RunConfig
from pretune_operator.job import JobView
from pretune_operator.settings import Settings

Manifest = dict[str, Any]
"""A Kubernetes resource as JSON."""


@dataclass(frozen=True)
class Manifests:
    """Everything that is made for one attempt. The job owns it all; make the RayJob last."""

    config_map: Manifest
    """The run config, immutable."""
    network_policies: tuple[Manifest, ...]
    """Who may talk to the attempt's pods; none where the administrator fences pods in otherwise."""
    ray_job: Manifest
    """The RayJob, to be created once and never applied again."""


def manifests(job: JobView, config: RunConfig, number: int, settings: Settings) -> Manifests:
    """Everything that attempt `number` of `job` is made of.

    Raises:
        PoolError: the job cannot have its pool.
    """
    raise NotImplementedError
