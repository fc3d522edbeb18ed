"""Names and labels of what the operator makes. Deterministic: an attempt that is made twice is made once."""

import hashlib
import re
from typing import Final

from pretune_api.names import Label
from pretune_operator.job import JobView

LONGEST: Final = 47
"""Characters of a RayJob's name at most: KubeRay derives the names of services and pods from it."""

_PREFIX: Final = {"PretrainJob": "ptj", "FinetuneJob": "ftj"}


def attempt_name(job: JobView, number: int) -> str:
    """Name of everything that belongs to attempt `number`, as in ptj-general-3f9a01c2-1; a DNS-1035 label.

    The hash tells apart jobs whose slugs are equal, and a job from one that was deleted and made anew.
    """
    prefix = _PREFIX[job.job.kind]
    name = job.job.metadata.name
    tail = f"-{hashlib.sha256(f'{job.uid}/{name}'.encode()).hexdigest()[:8]}-{number}"
    slug = re.sub("[^a-z0-9]+", "-", name)[: LONGEST - len(prefix) - 1 - len(tail)].strip("-")
    return f"{prefix}-{slug}{tail}"


def attempt_labels(job: JobView, number: int) -> dict[str, str]:
    """Labels of everything that belongs to attempt `number`."""
    return {
        Label.KIND.value: job.job.kind.lower(),
        Label.NAME.value: job.job.metadata.name,
        Label.UID.value: job.uid,
        Label.ATTEMPT.value: str(number),
    }
