"""Events: what has changed between two versions of a status, in words. As status changes once, each is told once."""

from collections.abc import Iterator
from typing import Final, Literal

from pretune_api.names import Cause
from pretune_api.status import Attempt, Condition, Status
from pretune_operator.conditions import ConditionType, Reason, holds
from pretune_operator.decision import Event

_SILENT: Final = {
    Reason.NO_PARENT,
    Reason.NO_ATTEMPT,
    Reason.NO_QUEUE,
    Reason.CHECKING,
    Reason.CREATED,
    Reason.STARTING,
    Reason.SUBMITTED,
    Reason.AWAITING_RESULT,
    Reason.BACKING_OFF,
    Reason.CLEANING_UP,
}
"""Reasons that go without saying, or that an attempt's event says better."""

_WARNINGS: Final = {
    Reason.PARENT_MISSING,
    Reason.PARENT_FAILED,
    Reason.PARENT_CYCLE,
    Reason.INCONCLUSIVE,
    Reason.REFUSED,
    Reason.KUBERAY_UNAVAILABLE,
    Reason.KUEUE_MISSING,
}
"""Reasons of ours that a person should look at; every cause, and what the kubelet says, is a warning, too."""

_ECHOES: Final = {
    (ConditionType.RUNNING, Reason.QUEUED),
    (ConditionType.RUNNING, Reason.EVICTED),
    (ConditionType.RUNNING, Reason.SUSPENDED),
    (ConditionType.RUNNING, Reason.SUCCEEDED),
    (ConditionType.RUNNING, Reason.FAILED),
    (ConditionType.PREFLIGHT_PASSED, Reason.SUSPENDED),
    (ConditionType.PREFLIGHT_PASSED, Reason.RETRIED),
    (ConditionType.PREFLIGHT_PASSED, Cause.USER_ERROR),
    (ConditionType.PREFLIGHT_PASSED, Cause.STORAGE_DENIED),
}
"""What another condition has just said."""


def events_between(before: Status, after: Status) -> tuple[Event, ...]:
    """What has happened from one status to the next."""
    return (*_of_attempts(before, after), *_of_conditions(before, after))


def _of_attempts(before: Status, after: Status) -> Iterator[Event]:
    known = {attempt.number: attempt for attempt in before.attempts}
    for attempt in after.attempts:
        earlier = known.get(attempt.number)
        if earlier is None and attempt.number > before.attempt_count:
            yield Event("Normal", "AttemptStarted", f"Attempt {attempt.number} has started: RayJob {attempt.ray_job}.")
        if attempt.cause and (earlier is None or not earlier.cause) and not holds(after, ConditionType.FAILED):
            yield Event("Warning", "AttemptFailed", _failed(attempt, after))


def _failed(attempt: Attempt, after: Status) -> str:
    at = after.next_attempt_time
    following = f" The next one starts at {at:%H:%M:%S} UTC." if at else ""
    return f"Attempt {attempt.number} failed with {attempt.cause}: {attempt.message}.{following}"


def _of_conditions(before: Status, after: Status) -> Iterator[Event]:
    known = {(earlier.type, earlier.status, earlier.reason) for earlier in before.conditions}
    for condition in after.conditions:
        if (condition.type, condition.status, condition.reason) not in known and _is_news(condition):
            yield Event(_type(condition), condition.reason, condition.message)


def _is_news(condition: Condition) -> bool:
    about, why = condition.type, condition.reason
    if about in (ConditionType.FINISHED, ConditionType.ACCEPTED) or (about, why) in _ECHOES:
        return False
    if about in (ConditionType.SUCCEEDED, ConditionType.FAILED):
        return condition.status == "True" or why == Reason.RETRIED
    return why not in _SILENT


def _type(condition: Condition) -> Literal["Normal", "Warning"]:
    return "Normal" if condition.reason in set(Reason) - _WARNINGS else "Warning"
