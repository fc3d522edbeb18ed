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
    """A taint of the nodes that pods tolerate, as in a pod's spec."""

    key: str | None = None
    """Key of the taint; every key if absent."""
    operator: Annotated[str, Field(pattern="^(Exists|Equal)$")] = "Equal"
    """How the value is compared."""
    value: str | None = None
    """Value of the taint."""
    effect: str | None = None
    """Effect of the taint; every effect if absent."""


RESOURCES: Final = Resources(cpu="1", memory="4Gi", ephemeral_storage="10Gi")
"""What a pod gets where neither the job nor the administrator says otherwise."""


class Placement(Spec):
    """Which nodes pods run on, and the annotations and variables that they have there."""

    node_selector: dict[str, str] = {}
    """Labels of the nodes."""
    tolerations: list[Toleration] = []
    """Taints of the nodes."""
    annotations: dict[str, str] = {}
    """Annotations of the pods, such as those that keep an autoscaler from moving them."""
    env: list[EnvVar] = []
    """Variables of the pods, such as a proxy's, or NCCL_IB_HCA for the network; those of a job have the last word."""


class Pool(Placement):
    """A kind of node that jobs ask for by name."""

    gpu_resource: str = "nvidia.com/gpu"
    """Resource name of the nodes' GPUs."""
    gpus_per_node: Annotated[int, Field(ge=0)] = 8
    """Number of GPUs of a node, which is the most that a worker can have."""
    resources: Resources = RESOURCES
    """Default requests and limits of a worker."""
    extended_resources: dict[str, Quantity] = {}
    """Other resources that each worker requests, such as devices of a fast network."""
    shared_memory: Quantity = "1Gi"
    """Default size of a worker's /dev/shm."""
    runtime_class_name: str | None = None
    """RuntimeClass of workers, if the nodes' default one has no GPUs."""
    namespaces: list[JobName] | None = None
    """Namespaces whose jobs may use the pool; all if absent."""


class Head(Placement):
    """The head pod: CPU only, it runs the driver and no training."""

    resources: Resources = RESOURCES
    """Requests and limits of a head pod."""


class Images(Spec):
    """Trainer images, by the kind of job."""

    pretrain: str
    """Image of PretrainJobs."""
    finetune: str
    """Image of FinetuneJobs."""
    pull_policy: Annotated[str, Field(pattern="^(Always|IfNotPresent|Never)$")] = "IfNotPresent"
    """When images are pulled."""


class Preflight(Spec):
    """Checks that are made on CPUs before a job takes machines."""

    enabled: bool = True
    """Whether jobs that do not set spec.preflight have one."""
    deadline_seconds: Annotated[int, Field(ge=10, le=86_400)] = 600
    """Time in seconds from a preflight's creation to its end, after which the job proceeds if no mistake was found."""


class Settings(Spec):
    """The operator's configuration."""

    images: Images
    """Trainer images of jobs that name none."""
    pools: Annotated[dict[JobName, Pool], Field(min_length=1)]
    """Pools, by the name that jobs use."""
    default_pool: JobName
    """Pool of jobs that name none."""
    head: Head = Head()
    """Head pods; preflights run on the same nodes, with the same resources."""
    preflight: Preflight = Preflight()
    """Checks before the first attempt."""
    drain_seconds: Annotated[int, Field(ge=1, le=3_600)] = 120
    """Grace period of worker pods in seconds, in which a run commits before it stops."""
    operator_namespace: JobName = "pretune-system"
    """Namespace of the operator, which may read progress from head pods."""
    monitoring_namespace: JobName | None = None
    """Namespace of Prometheus, which may scrape head pods; if absent, no namespace may."""
    kuberay_namespace: JobName | None = None
    """Namespace of KubeRay, which submits jobs to head pods; if absent, any namespace may try: a token guards them."""
    network_policies: bool = True
    """Whether NetworkPolicies restrict what can reach each attempt's pods."""

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
