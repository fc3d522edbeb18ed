"""What to do next for a job. Pure: everything is decided from what was seen, and nothing is remembered but status.

Two rules make it safe to crash anywhere between an action and the write of the status that follows it:
- An attempt is made under a name that follows from its number, so that making it again changes nothing; status may say
  so later. The next one is made only when the status that was read says that the one before has ended.
- Nothing is deleted before the status that was read says why: what is gone was either ours to delete, or is a failure.
A decision without actions is a last word: the write of its status wakes nobody. If more follows from that status, the
decision asks to look again.
`job.status` must be at least as new as the last status that was written; what is seen of the cluster may lag behind.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pretune_api.names import Cause, Label
from pretune_api.status import Artifact, Status
from pretune_operator.causes import obstacle_of
from pretune_operator.conditions import ConditionType, Reason, condition, holds, is_finished, reason
from pretune_operator.decision import Decision
from pretune_operator.draft import Draft
from pretune_operator.images import configured, kept
from pretune_operator.job import JobView
from pretune_operator.observed import Observed, SeenAttempt
from pretune_operator.outcome import Failure, GoesOn, Stopped, Trained, is_unheard, outcome, taken_up_by
from pretune_operator.policies.drain import drained, resumed, suspended
from pretune_operator.policies.expiry import expired, tidied
from pretune_operator.policies.failure import failed, finished, given_up, renewed
from pretune_operator.records import adopted, closed, counted_next, current, kept_up, ongoing
from pretune_operator.settings import Settings
from pretune_operator.start import RECHECK, started, without_queue

_STOPPED: Final = "stopped by spec.suspend"


def reconcile(job: JobView, seen: Observed, settings: Settings, now: datetime) -> Decision:
    """What to do next for `job`, given everything seen in the cluster. `now` is aware, in UTC."""
    if job.deleting:
        return Decision(job.status)  # owner references take the job's children with it
    draft = _begun(job, settings, now)
    if is_finished(draft.status):
        return expired(draft, seen, job.spec.ttl_seconds_after_finished).decided()
    if is_finished(job.status):
        # Status says that first: what is said next has its time from now on, and not from before the retry.
        return draft.looks_again(now).decided()
    draft = adopted(tidied(draft, seen), seen.attempts)
    if current(draft.status) is not None:
        draft = _attended(job, draft, seen)
    elif job.spec.suspend:
        draft = suspended(draft, seen)
    else:
        draft = started(job, resumed(draft), seen, settings)
    if any(attempt.is_leaving for attempt in seen.in_the_way):
        draft = draft.looks_again(now + RECHECK)  # no event tells that a pod should have left
    return draft.decided()


def refused(
    status: Status, generation: int, seen: Observed, sentences: Sequence[str], now: datetime, suspend: bool = False
) -> Decision:
    """What to do with a job whose resource is no valid job: `sentences` say everything that is wrong with it.

    `status` is what the resource's status says, or an empty one; `suspend` is the spec's. An attempt that goes on is
    seen to its end, for changes of the spec take effect with the next one; but none follows.
    """
    draft = Draft.begun(status, generation, now)
    if is_finished(status):
        return tidied(draft, seen).decided()
    said = "; ".join(sentences)
    draft = adopted(tidied(draft, seen), seen.attempts).says(ConditionType.ACCEPTED, False, Cause.USER_ERROR, said)
    if current(draft.status) is None:
        return given_up(draft, Cause.USER_ERROR, said).decided()
    return _outlived(draft, seen, said, suspend).decided()


def _begun(job: JobView, settings: Settings, now: datetime) -> Draft:
    """What follows from the spec alone."""
    draft = Draft.begun(job.status, job.generation, now).sets(stage=job.spec.stage)
    if holds(job.status, ConditionType.SUCCEEDED):
        return draft
    if job.spec.retry > job.status.observed_retry:
        draft = renewed(draft, job.spec.retry, configured(job, settings))
    draft = draft.sets(observed_retry=job.spec.retry)
    if is_finished(draft.status):
        return draft
    return draft.says(ConditionType.ACCEPTED, True, Reason.VALID, "The spec is valid.")


def _attended(job: JobView, draft: Draft, seen: Observed) -> Draft:
    """Whatever has become of the current attempt."""
    attempt = _attempt_of(draft, seen)
    draft = kept(job, _looked_at(draft, attempt, Label.QUEUE in job.labels), attempt)
    match outcome(job.spec, draft.status, attempt, draft.now):
        case Trained(artifact, metrics):
            return _succeeded(draft, artifact, metrics)
        case Failure(cause, message):
            return failed(draft, job.spec.failure_policy, cause, message).looks_again(draft.now)
        case Stopped():
            return _stopped(job, draft, seen)
        case GoesOn(until):
            return _going_on(draft, attempt, until, job.spec.suspend)


def _outlived(draft: Draft, seen: Observed, said: str, suspend: bool) -> Draft:
    """Whatever has become of the current attempt of a job that is not valid any more."""
    attempt = _attempt_of(draft, seen)
    draft = _looked_at(draft, attempt, in_queue=True)  # its labels would tell, and it only words what is said of quota
    match outcome(None, draft.status, attempt, draft.now):
        case Trained(artifact, metrics):
            return _succeeded(draft, artifact, metrics)
        case GoesOn(until):
            return _going_on(draft, attempt, until, suspend)
        case Stopped():
            draft = closed(draft, None, _STOPPED)
        case Failure():
            draft = closed(draft, Cause.USER_ERROR, said)
    return given_up(draft, Cause.USER_ERROR, said)


def _attempt_of(draft: Draft, seen: Observed) -> SeenAttempt | None:
    """What is seen of the current attempt."""
    return seen.attempts.get(ongoing(draft.status).number)


def _looked_at(draft: Draft, attempt: SeenAttempt | None, in_queue: bool) -> Draft:
    """Status kept up with what is seen of the current attempt."""
    if attempt is None:
        return draft
    draft = kept_up(draft, attempt)
    return draft if attempt.deleting else _with_quota(draft, attempt, in_queue)


def _going_on(draft: Draft, attempt: SeenAttempt | None, until: datetime | None, suspend: bool) -> Draft:
    draft = draft if attempt is None or attempt.deleting else _standing(draft, attempt)
    draft = draft if until is None else draft.looks_again(until)
    return drained(draft) if suspend else draft


def _succeeded(draft: Draft, artifact: Artifact, metrics: dict[str, float]) -> Draft:
    message = f"The artifact is {artifact.uri}."
    draft = closed(draft, None, None).sets(artifact=artifact, metrics=metrics or draft.status.metrics)
    draft = draft.says(ConditionType.SUCCEEDED, True, Reason.SUCCEEDED, message)
    return finished(draft, Reason.SUCCEEDED, message)


def _stopped(job: JobView, draft: Draft, seen: Observed) -> Draft:
    draft = closed(draft, None, _STOPPED).looks_again(draft.now)
    return suspended(draft, seen) if job.spec.suspend else resumed(draft)


def _with_quota(draft: Draft, attempt: SeenAttempt, in_queue: bool) -> Draft:
    """Whether the attempt has its machines, or Kueue makes it wait."""
    if not attempt.is_queued:
        return draft if holds(draft.status, ConditionType.QUOTA_RESERVED) else _admitted(draft, attempt, in_queue)
    if ongoing(draft.status).active_seconds > 0:
        message = "Kueue has reclaimed the quota; training resumes once the attempt is admitted again."
        return draft.says(ConditionType.QUOTA_RESERVED, False, Reason.EVICTED, message)
    message = f"Kueue has not admitted {attempt.ray_job} yet."
    return draft.says(ConditionType.QUOTA_RESERVED, False, Reason.QUEUED, message)


def _admitted(draft: Draft, attempt: SeenAttempt, in_queue: bool) -> Draft:
    waited = reason(draft.status, ConditionType.QUOTA_RESERVED) in (Reason.QUEUED, Reason.EVICTED)
    if waited or in_queue:
        return draft.says(
            ConditionType.QUOTA_RESERVED, True, Reason.ADMITTED, f"The quota of {attempt.ray_job} is reserved."
        )
    return without_queue(draft)


def _standing(draft: Draft, attempt: SeenAttempt) -> Draft:
    """Whether an attempt that goes on runs, and if not, why."""
    if attempt.is_queued:
        quota = condition(draft.status, ConditionType.QUOTA_RESERVED)
        assert quota is not None, "it was said a moment ago"
        return draft.says(ConditionType.RUNNING, False, quota.reason, quota.message)
    if attempt.has_finished:
        return draft.says(
            ConditionType.RUNNING, None, Reason.AWAITING_RESULT, "The driver has ended; waiting for its result."
        )
    if is_unheard(draft.status, attempt):
        message = f"{attempt.ray_job} is being submitted to its head pod."
        return draft.says(ConditionType.RUNNING, True, Reason.SUBMITTED, message)
    taken_up = taken_up_by(draft.status, draft.now)
    if not attempt.deployment_status and draft.now < taken_up:
        return _starting(draft, attempt).looks_again(taken_up)
    obstacle = obstacle_of(attempt)
    if obstacle is not None:
        return draft.says(ConditionType.RUNNING, attempt.is_running, obstacle.reason, obstacle.message)
    if attempt.is_running:
        draft = draft.says(ConditionType.RUNNING, True, Reason.TRAINING, f"{attempt.ray_job} is running.")
        return draft.looks_again(counted_next(draft))  # no event tells that one which makes no progress holds its GPUs
    return _starting(draft, attempt)


def _starting(draft: Draft, attempt: SeenAttempt) -> Draft:
    return draft.says(ConditionType.RUNNING, False, Reason.STARTING, f"Pods of {attempt.ray_job} are starting.")
