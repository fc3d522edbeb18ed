"""What follows from a failure: another attempt after a pause, or the end of the job."""

from datetime import datetime, timedelta
from typing import Final

from pretune_api.jobs import JobSpec
from pretune_api.lifecycle import FailurePolicy
from pretune_api.names import Cause
from pretune_api.status import Status
from pretune_operator.causes import HANDLING, budget_of, sharing
from pretune_operator.conditions import ConditionType, Reason, is_checking, is_finished
from pretune_operator.draft import Draft
from pretune_operator.records import active_seconds, closed

_LONGEST_PAUSE: Final = 600.0
"""Seconds; an attempt that ran for longer than this was none that failed at once, and the pauses begin anew."""


def failed(draft: Draft, policy: FailurePolicy, cause: Cause, message: str) -> Draft:
    """The current attempt has failed: close it, and try again unless the budget of its cause is spent."""
    draft = closed(draft, cause, message)
    failures = {**draft.status.failures, cause.value: draft.status.failures.get(cause, 0) + 1}
    draft = draft.sets(failures=failures)
    spent = sum(failures.get(other, 0) for other in sharing(cause))
    if spent > budget_of(cause, policy.retries):
        return given_up(draft, cause, f"{message}{_times(draft.status, spent)}")
    at = draft.now + _pause(draft.status, policy)
    said = f"{message}; the next attempt starts at {at:%H:%M:%S} UTC."
    draft = draft.sets(next_attempt_time=at).says(ConditionType.RUNNING, False, Reason.BACKING_OFF, said)
    return draft.looks_again(at)


def given_up(draft: Draft, cause: Cause, message: str) -> Draft:
    """The job has failed, for good unless a person raises spec.retry."""
    said = f"{message}. To continue: {HANDLING[cause].advice}."
    return finished(draft.says(ConditionType.FAILED, True, cause, said), Reason.FAILED, said)


def time_is_up(spec: JobSpec, status: Status, now: datetime) -> str | None:
    """That the job has held machines for as long as it may, as a sentence; None if it has not."""
    limit = spec.active_deadline_seconds
    if limit is None or active_seconds(status, now) < limit:
        return None
    return f"all attempts together have held machines for {limit} s, the limit of spec.activeDeadlineSeconds"


def finished(draft: Draft, why: Reason, message: str) -> Draft:
    """The job is over: nothing of it runs, is queued or suspended any more. What is left of it is seen to next."""
    if is_checking(draft.status):
        draft = draft.takes_back(ConditionType.PREFLIGHT_PASSED, Reason.NO_ATTEMPT, "The job has finished.")
    return (
        draft.sets(completion_time=draft.now, next_attempt_time=None)
        .looks_again(draft.now)
        .says(ConditionType.FINISHED, True, why, message)
        .says(ConditionType.RUNNING, False, why, message)
        .takes_back(ConditionType.QUOTA_RESERVED, Reason.NO_ATTEMPT, "The job has finished.")
        .takes_back(ConditionType.SUSPENDED, Reason.NO_ATTEMPT, "The job has finished.")
    )


def renewed(draft: Draft, retry: int, image: str) -> Draft:
    """The user has raised spec.retry: the job may fail as often again, and goes on if it had failed.

    `image` is the one that is configured now: what was wrong with the one that the job has kept may be mended in it.
    """
    message = f"spec.retry was raised to {retry}."
    draft = draft.sets(image=image if draft.status.attempt_count else None)
    if is_finished(draft.status):
        draft = draft.takes_back(ConditionType.PREFLIGHT_PASSED, Reason.RETRIED, message)
    return (
        draft.sets(observed_retry=retry, failures={}, next_attempt_time=None, completion_time=None)
        .takes_back(ConditionType.FAILED, Reason.RETRIED, message)
        .takes_back(ConditionType.FINISHED, Reason.RETRIED, message)
    )


def _times(status: Status, spent: int) -> str:
    return f"; giving up after {spent} such failures in {status.attempt_count} attempts" if spent > 1 else ""


def _pause(status: Status, policy: FailurePolicy) -> timedelta:
    """Doubles with each failure since an attempt that ran for long; the last attempts are enough to tell."""
    quick = 0
    for attempt in reversed(status.attempts):
        if attempt.cause is None or attempt.active_seconds > _LONGEST_PAUSE:
            break
        quick += 1
    doublings = max(0, min(quick, sum(status.failures.values())) - 1)
    return timedelta(seconds=min(_LONGEST_PAUSE, policy.backoff_seconds * 2.0**doublings))
