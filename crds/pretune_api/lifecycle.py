"""When a job is tried again, and when it is given up."""

from typing import Annotated

from pydantic import Field

from pretune_api.base import Spec

_Count = Annotated[int, Field(ge=0, le=1_000)]


class Retries(Spec):
    """How often a job is tried again after each kind of failure. A mistake of its user's is never tried again."""

    out_of_memory: _Count = 2
    """After OutOfMemory; where a device ran out of it, the next attempt starts with half the micro-batch."""
    unknown: _Count = 3
    """After Unknown."""
    interrupted: _Count = 100
    """After NodeLost, Preempted, Network, StorageUnavailable and HeadLost, together."""


class FailurePolicy(Spec):
    """What happens when an attempt fails."""

    retries: Retries = Retries()
    """How often a job is tried again, by cause."""
    backoff_seconds: Annotated[int, Field(ge=0, le=3_600)] = 10
    """Pause before the second attempt; it doubles with each failure, up to ten minutes, and begins anew after an
    attempt that ran for longer than that."""
    start_deadline_seconds: Annotated[int, Field(ge=60, le=604_800)] = 3_600
    """Time that an attempt has, once its quota is reserved, until all its pods run; then it gives them back and the job
    fails with what was missing: an image, a node, quota."""
