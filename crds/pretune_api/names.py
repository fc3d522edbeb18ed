"""Names that more than one room uses: API identifiers, exit codes, metric names."""

from enum import IntEnum, StrEnum
from typing import Final

GROUP: Final = "pretune.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = "pretune.dev/v1alpha1"

LOCAL_NAMESPACE: Final = "local"
"""The namespace of jobs that `pretune run` trains on one machine."""


class ExitCode(IntEnum):
    """How a Pretune process ends; the numbers are part of the contract with the operator and with scripts."""

    OK = 0
    FAILED = 1
    USER_ERROR = 2
    STOPPED = 75
    """Asked to stop, and a checkpoint is committed: run again to resume (EX_TEMPFAIL of sysexits.h)."""


class Cause(StrEnum):
    """Why an attempt failed, as it stands in status: what the trainer says, or else what the operator sees."""

    USER_ERROR = "UserError"
    STORAGE_DENIED = "StorageDenied"
    STORAGE_UNAVAILABLE = "StorageUnavailable"
    NUMERICAL_ERROR = "NumericalError"
    OUT_OF_MEMORY = "OutOfMemory"
    UNKNOWN = "Unknown"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    IMAGE_PULL = "ImagePull"
    QUOTA = "Quota"
    UNSCHEDULABLE = "Unschedulable"
    NODE_LOST = "NodeLost"
    PREEMPTED = "Preempted"
    NETWORK = "Network"
    HEAD_LOST = "HeadLost"


class Label(StrEnum):
    """Labels of everything that the operator makes."""

    KIND = "pretune.dev/kind"
    """Kind of the job, in lower case."""
    NAME = "pretune.dev/name"
    """Name of the job."""
    UID = "pretune.dev/uid"
    """UID of the job."""
    ATTEMPT = "pretune.dev/attempt"
    """Number of the attempt."""
    PREFLIGHT = "pretune.dev/preflight"
    """Number of the preflight."""
    QUEUE = "kueue.x-k8s.io/queue-name"
    """Kueue's queue: on a job, passed on to its RayJobs."""
    QUEUE_PRIORITY = "kueue.x-k8s.io/priority-class"
    """Kueue's priority class: on a job, passed on to its RayJobs."""


PROGRESS_PORT: Final = 9464
"""Read-only port of a head pod: /progress for the operator, /metrics for Prometheus."""
DESK_PORT: Final = 9465
"""Guarded port of a head pod, for driver and ranks."""
DESK_FILE_VARIABLE: Final = "PRETUNE_DESK_FILE"
"""Variable of a worker pod: the file in which its ranks leave the desk's address, for the hook that drains it."""
DISK_VARIABLE: Final = "PRETUNE_DISK"
"""Variable of a worker pod: bytes of local disk that it may use; where it is unset, all that are free."""
FINDINGS_FILE_VARIABLE: Final = "PRETUNE_FINDINGS_FILE"
"""Variable of a preflight: the file in which it leaves its findings, in place of Kubernetes' own."""
