"""What the cluster's administrator configures: pools, the trainer image, and where jobs may run. A YAML file."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pretune_api.base import Spec
from pretune_api.compute import EnvVar, Resources
from pretune_api.units import JobName, Quantity


class SettingsError(Exception):
    """The operator's configuration cannot be used."""


class Toleration(Spec):
    """A taint of a pool's nodes that pods put up with, as in a pod's spec."""

    key: str | None = None
    """The taint's key; every key when absent."""
    operator: Annotated[str, Field(pattern="^(Exists|Equal)$")] = "Equal"
    """How the value is compared."""
    value: str | None = None
    """The taint's value."""
    effect: str | None = None
    """The taint's effect; every effect when absent."""


RESOURCES: Final = Resources(cpu="1", memory="4Gi", ephemeral_storage="10Gi")
"""What a pod gets of that of which nobody says anything."""


class Place(Spec):
    """Nodes, and what is said to them of the pods that they get."""

    node_selector: dict[str, str] = {}
    """Labels of the nodes."""
    tolerations: list[Toleration] = []
    """Taints of the nodes."""
    annotations: dict[str, str] = {}
    """Annotations of the pods, such as those that keep an autoscaler from moving them."""
    env: list[EnvVar] = []
    """Variables of the pods, such as a proxy's, or NCCL_IB_HCA for the network; those of a job have the last word."""


class Pool(Place):
    """A kind of node that jobs ask for by name."""

    gpu_resource: str = "nvidia.com/gpu"
    """Name under which the nodes offer their GPUs."""
    gpus_per_node: Annotated[int, Field(ge=0)] = 8
    """GPUs of a node; a worker that asks for more can never run."""
    resources: Resources = RESOURCES
    """What a worker gets where its job says nothing."""
    extended_resources: dict[str, Quantity] = {}
    """What each worker asks for beside these and its GPUs, such as devices of a fast network."""
    shared_memory: Quantity = "1Gi"
    """Size of /dev/shm where the job says nothing."""
    runtime_class_name: str | None = None
    """RuntimeClass of workers, where the nodes' default has no GPUs."""
    namespaces: list[JobName] | None = None
    """Namespaces whose jobs may use the pool; every one when absent."""


class Head(Place):
    """The head pod: CPU only, it runs the driver and no training."""

    resources: Resources = RESOURCES
    """What it asks for and is limited to."""


class Images(Spec):
    """Trainer images, by the kind of job."""

    pretrain: str
    """Image of PretrainJobs."""
    finetune: str
    """Image of FinetuneJobs."""
    pull_policy: Annotated[str, Field(pattern="^(Always|IfNotPresent|Never)$")] = "IfNotPresent"
    """When images are pulled."""


class Preflight(Spec):
    """What is tried on CPUs before a job takes machines."""

    enabled: bool = True
    """Whether jobs are tried that do not say in spec.preflight whether they are."""
    deadline_seconds: Annotated[int, Field(ge=10, le=86_400)] = 600
    """Time that it has from being made to its end; a job of which nothing wrong is known by then goes on."""


class Settings(Spec):
    """The operator's configuration."""

    images: Images
    """Trainer images where a job names none."""
    pools: Annotated[dict[JobName, Pool], Field(min_length=1)]
    """Pools, by the name that jobs use."""
    default_pool: JobName
    """Pool of jobs that name none."""
    head: Head = Head()
    """Head pods; preflights run on the same nodes, and ask for as much."""
    preflight: Preflight = Preflight()
    """What is tried before machines are taken."""
    drain_seconds: Annotated[int, Field(ge=1, le=3_600)] = 120
    """Grace period of worker pods, in which a run commits before a stop."""
    operator_namespace: JobName = "pretune-system"
    """Namespace of the operator, which may read progress from head pods."""
    monitoring_namespace: JobName | None = None
    """Namespace of Prometheus, which may scrape head pods; no other may when absent."""
    kuberay_namespace: JobName | None = None
    """Namespace of KubeRay, which submits to head pods; every one may when absent: a token guards them anyway."""
    network_policies: bool = True
    """Whether each attempt's pods are fenced in by NetworkPolicies."""

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """The settings in a file.

        Raises:
            SettingsError: it cannot be read, or something in it is wrong; says what and where.
        """
        try:
            settings = cls.model_validate(YAML(typ="safe", pure=True).load(path))
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
        except YAMLError as error:
            raise SettingsError(f"{path}: is not valid YAML: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            raise SettingsError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        if settings.default_pool not in settings.pools:
            known = ", ".join(settings.pools)
            raise SettingsError(f"{path}: defaultPool: there is no pool {settings.default_pool}; known: {known}")
        return settings
