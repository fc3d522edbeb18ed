"""Conditions: what is true of a job, by type, and the one word that follows from them."""

from enum import StrEnum
from typing import Final

from pretune_api.status import Condition, State, Status

_LONGEST: Final = 2_048
"""Characters of a message at most: Ray quotes whole stacks."""


class ConditionType(StrEnum):
    """What a condition is about."""

    ACCEPTED = "Accepted"
    INPUTS_RESOLVED = "InputsResolved"
    PREFLIGHT_PASSED = "PreflightPassed"
    QUOTA_RESERVED = "QuotaReserved"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    FINISHED = "Finished"


class Reason(StrEnum):
    """Reasons of conditions. Causes of failures, which are reasons too, are named in pretune_api.names."""

    VALID = "Valid"
    RESOLVED = "Resolved"
    NO_PARENT = "NoParent"
    PARENT_MISSING = "ParentMissing"
    PARENT_RUNNING = "ParentRunning"
    PARENT_FAILED = "ParentFailed"
    PARENT_CYCLE = "ParentCycle"
    CHECKING = "Checking"
    PASSED = "Passed"
    INCONCLUSIVE = "Inconclusive"
    SKIPPED = "Skipped"
    KUBERAY_UNAVAILABLE = "KubeRayUnavailable"
    KUEUE_MISSING = "KueueMissing"
    NO_ATTEMPT = "NoAttempt"
    NO_QUEUE = "NoQueue"
    QUEUED = "Queued"
    EVICTED = "Evicted"
    ADMITTED = "Admitted"
    CREATED = "Created"
    STARTING = "Starting"
    SUBMITTED = "Submitted"
    TRAINING = "Training"
    AWAITING_RESULT = "AwaitingResult"
    REFUSED = "Refused"
    BACKING_OFF = "BackingOff"
    CLEANING_UP = "CleaningUp"
    DRAINING = "Draining"
    SUSPENDED = "Suspended"
    RESUMED = "Resumed"
    RETRIED = "Retried"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


def condition(status: Status, about: ConditionType) -> Condition | None:
    """The condition of a type, if anything was ever said about it."""
    return next((known for known in status.conditions if known.type == about), None)


def holds(status: Status, about: ConditionType) -> bool:
    """Whether a condition is known to be true."""
    known = condition(status, about)
    return known is not None and known.status == "True"


def reason(status: Status, about: ConditionType) -> str | None:
    """Why a condition is what it is."""
    known = condition(status, about)
    return known.reason if known else None


def is_finished(status: Status) -> bool:
    """Whether the job has succeeded or failed."""
    return holds(status, ConditionType.FINISHED)


def is_draining(status: Status) -> bool:
    """Whether an attempt is being stopped because the user asked for it; once begun, it is carried through."""
    return reason(status, ConditionType.SUSPENDED) == Reason.DRAINING


def is_checking(status: Status) -> bool:
    """Whether a preflight was made, and nothing has come of it yet."""
    return reason(status, ConditionType.PREFLIGHT_PASSED) == Reason.CHECKING


def with_condition(status: Status, after: Condition) -> Status:
    """`status` with this condition in place of the one of its type, in the order of `ConditionType`.

    A newer version may have stated others, which go.
    """
    order = list(ConditionType)
    others = [known for known in status.conditions if known.type in order and known.type != after.type]
    conditions = sorted([*others, after], key=lambda known: order.index(ConditionType(known.type)))
    return status.model_copy(update={"conditions": conditions})


def state_of(status: Status) -> State:
    """The conditions in one word."""
    decided: tuple[tuple[ConditionType, State], ...] = (
        (ConditionType.FAILED, "Failed"),
        (ConditionType.SUCCEEDED, "Succeeded"),
        (ConditionType.SUSPENDED, "Suspended"),
        (ConditionType.RUNNING, "Running"),
    )
    for about, state in decided:
        if holds(status, about):
            return state
    return _not_running(status)


def _not_running(status: Status) -> State:
    match reason(status, ConditionType.RUNNING):
        case Reason.AWAITING_RESULT:
            return "Running"
        case Reason.REFUSED | Reason.BACKING_OFF | Reason.CLEANING_UP | Reason.CHECKING:
            return "Waiting"
    if reason(status, ConditionType.QUOTA_RESERVED) in (Reason.QUEUED, Reason.EVICTED):
        return "Queued"
    if holds(status, ConditionType.QUOTA_RESERVED):
        return "Starting"
    inputs = condition(status, ConditionType.INPUTS_RESOLVED)
    return "Waiting" if inputs is not None and inputs.status == "False" else "Pending"


def shortened(message: str) -> str:
    """A message that fits into status."""
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…"
