"""Names and labels of what the operator makes. Deterministic: an attempt that is made twice is made once."""

import hashlib
import re
from typing import Any, Final

from pretune_api.names import API_VERSION, Label
from pretune_operator.job import JobView

LONGEST: Final = 47
"""Characters of a RayJob's name at most: KubeRay derives the names of services and pods from it."""

HEAD_CONTAINER: Final = "ray-head"
WORKER_CONTAINER: Final = "ray-worker"
PREFLIGHT_CONTAINER: Final = "preflight"
OUR_CONTAINERS: Final = frozenset({HEAD_CONTAINER, WORKER_CONTAINER, PREFLIGHT_CONTAINER})
"""Names of the containers that are ours; KubeRay, meshes and the like add others to the same pods."""

Manifest = dict[str, Any]
"""A Kubernetes resource, or a part of one, as JSON."""

_PREFIX: Final = {"PretrainJob": "ptj", "FinetuneJob": "ftj"}


def attempt_name(job: JobView, number: int) -> str:
    """Name of everything that belongs to attempt `number`, as in ptj-general-3f9a01c2-1; a DNS-1035 label.

    The hash tells apart jobs whose slugs are equal, and a job from one that was deleted and made anew.
    """
    return _name(job, str(number))


def preflight_name(job: JobView, number: int) -> str:
    """Name of preflight `number`, as in ptj-general-3f9a01c2-preflight-1; a DNS-1035 label."""
    return _name(job, f"preflight-{number}")


def named_by_content(metadata: Manifest, content: str) -> Manifest:
    """The same metadata, under a name that follows from the content, too, as in ptj-general-3f9a01c2-1-5be3a0d7."""
    return metadata | {"name": f"{metadata['name']}-{_digest(content)}"}


def attempt_labels(job: JobView, number: int) -> dict[str, str]:
    """Labels of everything that belongs to attempt `number`."""
    return _labels(job) | {Label.ATTEMPT.value: str(number)}


def preflight_labels(job: JobView, number: int) -> dict[str, str]:
    """Labels of everything that belongs to preflight `number`."""
    return _labels(job) | {Label.PREFLIGHT.value: str(number)}


def attempt_metadata(job: JobView, number: int) -> Manifest:
    """Metadata of everything that belongs to attempt `number`: it goes when the job goes."""
    return _metadata(job, attempt_name(job, number), attempt_labels(job, number))


def preflight_metadata(job: JobView, number: int) -> Manifest:
    """Metadata of preflight `number`: it goes when the job goes."""
    return _metadata(job, preflight_name(job, number), preflight_labels(job, number))


def _name(job: JobView, end: str) -> str:
    prefix = _PREFIX[job.resource.kind]
    name = job.resource.metadata.name
    tail = f"-{_digest(f'{job.uid}/{name}')}-{end}"
    slug = re.sub("[^a-z0-9]+", "-", name)[: LONGEST - len(prefix) - 1 - len(tail)].strip("-")
    return f"{prefix}-{slug}{tail}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _labels(job: JobView) -> dict[str, str]:
    return {
        Label.KIND.value: job.resource.kind.lower(),
        Label.NAME.value: job.resource.metadata.name,
        Label.UID.value: job.uid,
    }


def _metadata(job: JobView, name: str, labels: dict[str, str]) -> Manifest:
    """Nothing of the job's own labels and annotations is taken over: kubectl and kopf keep their notes there."""
    owner = {
        "apiVersion": API_VERSION,
        "kind": job.resource.kind,
        "name": job.resource.metadata.name,
        "uid": job.uid,
        "controller": True,
        # Blocking needs a right on the finalizers of jobs, and nobody has to wait for an attempt to go.
        "blockOwnerDeletion": False,
    }
    return {
        "name": name,
        "namespace": job.namespace,
        "labels": labels,
        "ownerReferences": [owner],
    }
