"""When a job is tried again, and when it is given up."""

from typing import Annotated

from pydantic import Field

from pretune_api.base import Spec

_Count = Annotated[int, Field(ge=0, le=1_000)]


class Retries(Spec):
    """Number of retries after each kind of failure. User errors are never retried."""

    out_of_memory: _Count = 2
    """Retries after OutOfMemory; if a device ran out of memory, the next attempt starts with half the micro-batch."""
    unknown: _Count = 3
    """Retries after Unknown."""
    interrupted: _Count = 100
    """Retries after NodeLost, Preempted, Network, StorageUnavailable and HeadLost, combined."""


class FailurePolicy(Spec):
    """How failed attempts are retried, and when the job fails."""

    retries: Retries = Retries()
    """Number of retries, by cause."""
    backoff_seconds: Annotated[int, Field(ge=0, le=3_600)] = 10
    """Pause in seconds before the second attempt; it doubles with each failure, up to ten minutes, and is reset by an
    attempt that ran for longer than that."""
    start_deadline_seconds: Annotated[int, Field(ge=60, le=604_800)] = 3_600
    """Time in seconds, once its quota is reserved, within which all pods of an attempt must be running. Otherwise they
    are deleted, and the job fails with what they were missing: an image, a node, quota."""
