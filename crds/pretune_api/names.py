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
    """Why an attempt failed, as it stands in a job's status."""

    USER_ERROR = "UserError"
    STORAGE_DENIED = "StorageDenied"
    STORAGE_UNAVAILABLE = "StorageUnavailable"
    NUMERICAL_ERROR = "NumericalError"
    OUT_OF_MEMORY = "OutOfMemory"
    UNKNOWN = "Unknown"
