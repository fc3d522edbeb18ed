"""How an attempt has ended, if it has."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pretune_api.jobs import JobSpec
from pretune_api.names import Cause
from pretune_api.status import Artifact, Status
from pretune_operator.causes import cause_of, lost_head, unheard, unstarted
from pretune_operator.conditions import ConditionType, Reason, condition, holds, is_draining, reason
from pretune_operator.observed import SeenAttempt
from pretune_operator.policies.failure import time_is_up
from pretune_operator.records import active_seconds, ongoing

PATIENCE: Final = timedelta(seconds=60)
"""Time in which what was made must be seen, and the last word of a driver be read."""
_ASKED_EVERY: Final = timedelta(seconds=3)
"""Between two questions for the last word."""
_SUBMITTED: Final = timedelta(minutes=10)
"""Time in which the head of a RayJob that runs must be seen at work: KubeRay tries to submit to it without end."""
_TAKING_UP: Final = timedelta(minutes=5)
"""Time in which KubeRay should take up a RayJob; it sees to one after the other where many come at once."""
_GRACE: Final = timedelta(seconds=30)
"""Time that KubeRay gets to end an attempt at its start deadline, before we do."""


@dataclass(frozen=True)
class Trained:
    """There is an artifact."""

    artifact: Artifact
    metrics: dict[str, float]


@dataclass(frozen=True)
class Stopped:
    """It was stopped because the user asked for it."""


@dataclass(frozen=True)
class Failure:
    """It failed."""

    cause: Cause
    message: str


@dataclass(frozen=True)
class GoesOn:
    """It has not ended; without an event, look again at `until`."""

    until: datetime | None = None


Outcome = Trained | Stopped | Failure | GoesOn


def outcome(spec: JobSpec | None, status: Status, attempt: SeenAttempt | None, now: datetime) -> Outcome:
    """How the current attempt has ended.

    `status` is kept up with what was seen of it. Without a `spec`, because it is not valid, its limits end nothing.
    """
    if attempt is None:
        return _unseen(status, now)
    if attempt.ending is not None and attempt.ending.artifact is not None:
        return Trained(attempt.ending.artifact, attempt.ending.metrics)
    if is_draining(status):
        return Stopped() if attempt.is_over else GoesOn()
    if attempt.deleting:
        return _deleted(attempt) if attempt.is_over else GoesOn()
    if attempt.is_queued:
        return GoesOn()
    return _end(attempt, status, now) or (_limits(spec, status, attempt, now) if spec else GoesOn())


def taken_up_by(status: Status, now: datetime) -> datetime:
    """When KubeRay should have taken up the RayJob of the current attempt."""
    return _begin(status, now) + _TAKING_UP


def _unseen(status: Status, now: datetime) -> Outcome:
    """A RayJob that was made a moment ago may not have reached our cache; one that was seen before is gone."""
    record = ongoing(status)
    seen_by = (record.start_time or now) + PATIENCE
    if reason(status, ConditionType.RUNNING) == Reason.CREATED and now < seen_by:
        return GoesOn(seen_by)
    if is_draining(status):
        return Stopped()
    return Failure(Cause.UNKNOWN, f"RayJob {record.ray_job} no longer exists, and the operator did not delete it")


def _deleted(attempt: SeenAttempt) -> Failure:
    if attempt.ending is not None:
        return Failure(*cause_of(attempt))
    return Failure(Cause.UNKNOWN, f"RayJob {attempt.ray_job} was deleted, but not by the operator")


def _end(attempt: SeenAttempt, status: Status, now: datetime) -> Outcome | None:
    """The driver has ended, or KubeRay has, or the head is gone, which KubeRay does not notice."""
    if attempt.has_finished and _last_word_may_come(attempt):
        return _awaited(attempt, status, now)
    if attempt.has_finished or (attempt.is_running and attempt.ending is not None):
        return _explained(attempt, status)
    if attempt.is_running and attempt.head_is_gone and _had_head(status):
        return Failure(*lost_head(attempt))
    return None


def _last_word_may_come(attempt: SeenAttempt) -> bool:
    """Where KubeRay names a reason of its own, the driver had nothing to say."""
    if attempt.ending is not None or attempt.reason not in ("", "AppFailed"):
        return False
    return attempt.has_succeeded or not attempt.head_is_gone


def _awaited(attempt: SeenAttempt, status: Status, now: datetime) -> Outcome:
    begun = reason(status, ConditionType.RUNNING) == Reason.AWAITING_RESULT
    until = (_since(status, ConditionType.RUNNING, now) if begun else now) + PATIENCE
    return GoesOn(min(until, now + _ASKED_EVERY)) if now < until else Failure(*cause_of(attempt))


def _explained(attempt: SeenAttempt, status: Status) -> Failure:
    """Its pods may be gone when KubeRay gives up on them; then what was last said of them counts."""
    cause, message = cause_of(attempt)
    known = condition(status, ConditionType.RUNNING)
    unexplained = cause is Cause.UNKNOWN and attempt.reason == "PreRunningDeadlineExceeded"
    if unexplained and known and known.reason in set(Cause):
        return Failure(Cause(known.reason), known.message)
    return Failure(cause, message)


def _limits(spec: JobSpec, status: Status, attempt: SeenAttempt, now: datetime) -> Outcome:
    """What time alone decides."""
    if too_long := time_is_up(spec, status, now):
        return Failure(Cause.DEADLINE_EXCEEDED, too_long)
    active = _active_deadline(spec, status, now)
    if not attempt.deployment_status:
        return GoesOn(active)  # KubeRay is away: nothing holds a machine, and another attempt would wait as long
    if not attempt.is_running:
        until = _start_deadline(spec, status, attempt, now)
        return GoesOn(min(until, active or until)) if now < until else Failure(*unstarted(attempt))
    if is_unheard(status, attempt):
        since = _since(status, ConditionType.RUNNING, now) if holds(status, ConditionType.RUNNING) else now
        until = since + _SUBMITTED
        return GoesOn(min(until, active or until)) if now < until else Failure(*unheard(attempt))
    return GoesOn(active)


def is_unheard(status: Status, attempt: SeenAttempt) -> bool:
    """Whether KubeRay says that a RayJob runs whose head was not seen at work yet, or is not any more."""
    if not attempt.is_running:
        return False
    return attempt.head_is_gone or not (attempt.job_status or attempt.progress or _had_head(status))


def _had_head(status: Status) -> bool:
    """Whether the head of the current attempt was seen at work."""
    running = condition(status, ConditionType.RUNNING)
    return running is not None and running.status == "True" and running.reason != Reason.SUBMITTED


def _start_deadline(spec: JobSpec, status: Status, attempt: SeenAttempt, now: datetime) -> datetime:
    begin = _begin(status, now)
    taken_up = attempt.taken_up or begin
    return max(begin, taken_up) + timedelta(seconds=spec.failure_policy.start_deadline_seconds) + _GRACE


def _begin(status: Status, now: datetime) -> datetime:
    """When the attempt was made and, where it had to wait for quota, admitted."""
    return max(_since(status, ConditionType.QUOTA_RESERVED, now), ongoing(status).start_time or now)


def _active_deadline(spec: JobSpec, status: Status, now: datetime) -> datetime | None:
    if spec.active_deadline_seconds is None or ongoing(status).active_since is None:
        return None
    return now + timedelta(seconds=spec.active_deadline_seconds - active_seconds(status, now))


def _since(status: Status, about: ConditionType, now: datetime) -> datetime:
    known = condition(status, about)
    return known.last_transition_time if known else now
