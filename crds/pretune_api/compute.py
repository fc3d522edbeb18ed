"""The machines that a job runs on."""

import re
from typing import Annotated, ClassVar, Final

from pydantic import Field

from pretune_api.base import Rule, Spec
from pretune_api.units import LABEL_KEY, EnvName, FolderPath, JobName, LabelValue, ObjectName, Quantity

_RESERVED: Final = "^(pretune[.]dev/|ray[.]io/|kueue[.]x-k8s[.]io/|app[.]kubernetes[.]io/created-by$)"
"""Labels that we, KubeRay and Kueue tell pods by."""
_IMAGES: Final = "^/(bin|boot|dev|etc|lib[0-9x]*|opt|proc|root|run|sbin|sys|tmp|usr|var)(/|$)"
"""Folders of trainer images, and what the operator and Kubernetes mount into them."""


class SecretKey(Spec):
    """A key of a Secret in the job's namespace."""

    name: ObjectName
    """Name of the Secret."""
    key: Annotated[str, Field(min_length=1, max_length=253)]
    """Key to select from the Secret."""


class EnvVar(Spec):
    """An environment variable of the trainer."""

    name: EnvName
    """Name of the variable."""
    value: Annotated[str, Field(max_length=4096)] | None = None
    """Value of the variable."""
    secret_key_ref: SecretKey | None = None
    """Secret key that holds the value."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="set exactly one of value, secretKeyRef",
            cel="has(self.value) != has(self.secretKeyRef)",
            holds=lambda self: (self.value is None) != (self.secret_key_ref is None),
        ),
    )


class ImagePullSecret(Spec):
    """A Secret in the job's namespace with credentials for pulling images."""

    name: ObjectName
    """Name of the Secret."""


class Volume(Spec):
    """A PersistentVolumeClaim in the job's namespace, mounted read-only; workers on several nodes need one with the
    access mode ReadOnlyMany or ReadWriteMany."""

    claim: ObjectName
    """Name of the PersistentVolumeClaim."""
    mount_path: FolderPath
    """Folder at which pods see it: in /data, a file general/a.parquet of the volume is file:///data/general/a.parquet."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="mountPath",
            message="must not be in /bin, /boot, /dev, /etc, /lib, /opt, /proc, /root, /run, /sbin, /sys, /tmp, /usr or"
            " /var, which pods need as they are; use another folder, such as /data",
            cel=f"!self.mountPath.matches('{_IMAGES}')",
            holds=lambda self: not re.match(_IMAGES, self.mount_path),
        ),
    )


class Resources(Spec):
    """Requests and limits of each worker, in addition to its GPUs; they default to those of the pool."""

    cpu: Quantity | None = None
    """CPUs, such as 8 or 500m."""
    memory: Quantity | None = None
    """Memory, such as 64Gi."""
    ephemeral_storage: Quantity | None = None
    """Local disk, such as 100Gi."""


class Compute(Spec):
    """The machines that the job runs on. `pretune run` uses only the number of ranks, which --workers overrides."""

    pool: JobName | None = None
    """Name of a node pool that the cluster's administrator has set up; defaults to the cluster's default pool."""
    workers: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Number of worker pods."""
    gpus_per_worker: Annotated[int, Field(ge=0, le=64)] = 1
    """Number of GPUs of each worker, each used by one rank; with 0, each worker is one rank on CPUs."""
    image: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Trainer image; defaults to the one that the operator is configured with when the job begins to train."""
    image_pull_secrets: Annotated[list[ImagePullSecret], Field(max_length=16)] = []
    """Secrets for pulling the image."""
    service_account_name: ObjectName | None = None
    """Service account of the pods, for workload identity; its token is not mounted."""
    env: Annotated[list[EnvVar], Field(max_length=64)] = []
    """Environment variables of the trainer."""
    volumes: Annotated[list[Volume], Field(max_length=8)] = []
    """PersistentVolumeClaims with data or models, which the job then names as file:///path."""
    resources: Resources = Resources()
    """CPU, memory and local disk of each worker."""
    shared_memory: Quantity | None = None
    """Size of each worker's /dev/shm, which counts towards its memory; defaults to that of the pool."""
    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods."""
    labels: Annotated[dict[str, LabelValue], Field(max_length=32)] = {}
    """Labels to add to the pods."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="labels",
            message="keys must be a name such as team, or a prefix and a name such as example.com/team",
            cel=f"!has(self.labels) || self.labels.all(key, key.matches('{LABEL_KEY}'))",
            holds=lambda self: all(re.match(LABEL_KEY, key) for key in self.labels),
        ),
        Rule(
            field="labels",
            message="the prefixes pretune.dev/, ray.io/ and kueue.x-k8s.io/ and the key app.kubernetes.io/created-by"
            " are reserved; use another",
            cel=f"!has(self.labels) || !self.labels.exists(key, key.matches('{_RESERVED}'))",
            holds=lambda self: not any(re.match(_RESERVED, key) for key in self.labels),
        ),
        Rule(
            field="volumes",
            message="every mountPath must differ from the others, and lie in none of them",
            cel="!has(self.volumes) || self.volumes.all(outer, self.volumes.exists_one(inner,"
            " (inner.mountPath + '/').startsWith(outer.mountPath + '/')))",
            holds=lambda self: all(_mounted_in(outer, self.volumes) == [outer] for outer in self.volumes),
        ),
    )


def _mounted_in(outer: Volume, volumes: list[Volume]) -> list[Volume]:
    """Those of `volumes` that are mounted at the folder of `outer`, itself for one, or below it."""
    return [inner for inner in volumes if f"{inner.mount_path}/".startswith(f"{outer.mount_path}/")]
