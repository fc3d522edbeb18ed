"""What is removed, and when. Nothing is deleted before status says why, so no deletion is ever taken for a failure."""

from datetime import datetime, timedelta
from typing import Final

from pretune_operator.conditions import is_checking, is_draining, is_finished
from pretune_operator.decision import DeleteAttempt, DeleteCluster, DeleteLeftovers, DeletePreflight
from pretune_operator.draft import Draft
from pretune_operator.observed import Observed, SeenAttempt
from pretune_operator.records import current, record_of

_LAST_WORDS: Final = timedelta(seconds=60)
"""Time that KubeRay has to see for itself that a driver has ended, so that the RayJob tells it, too."""
_SOUGHT: Final = timedelta(hours=1)
"""How long leftovers are deleted whenever an expired job is looked at that has no RayJob any more: nobody watches them,
and an operator that starts shall not ask for those of all such jobs."""


def tidied(draft: Draft, seen: Observed) -> Draft:
    """Remove what the status that was written has no more use for."""
    for number, attempt in seen.attempts.items():
        if attempt.orphan is not None:
            draft = draft.does(DeleteCluster(attempt.orphan))
        if not attempt.deleting:
            draft = _tidied(draft, number, attempt)
    for number, preflight in seen.preflights.items():
        if not preflight.deleting and not _is_followed(draft, number):
            draft = draft.does(DeletePreflight(preflight.job))
    return draft


def expired(draft: Draft, seen: Observed, time_to_live: int | None) -> Draft:
    """Remove what a finished job consisted of once its time has come; the job and its artifact stay."""
    finish = draft.before.completion_time
    if time_to_live is None or finish is None:
        return tidied(draft, seen)
    at = finish + timedelta(seconds=time_to_live)
    if draft.now < at:
        return tidied(draft, seen).looks_again(at)
    left = [attempt for attempt in seen.attempts.values() if not attempt.deleting]
    # Pods that drain talk to each other, which a NetworkPolicy may have to allow: it goes after the last of them.
    if (left and not seen.in_the_way) or (not seen.attempts and draft.now <= at + _SOUGHT):
        draft = draft.does(DeleteLeftovers())
    return draft.does(*(DeleteAttempt(attempt.ray_job) for attempt in left)) if left else tidied(draft, seen)


def _tidied(draft: Draft, number: int, attempt: SeenAttempt) -> Draft:
    status = draft.before
    record = record_of(status, number)
    if record is None:
        forgotten = number <= status.attempt_count or is_finished(draft.status)
        return draft.does(DeleteAttempt(attempt.ray_job)) if forgotten else draft
    if record.completion_time is None:
        return draft.does(DeleteAttempt(attempt.ray_job)) if is_draining(status) else draft
    return _after_its_end(draft, attempt, record.completion_time)


def _is_followed(draft: Draft, preflight: int) -> bool:
    """Whether something may still come of a preflight. Status may not yet say that it was made."""
    status = draft.before
    if is_finished(draft.status) or is_draining(status) or current(status) is not None:
        return False
    return preflight > status.preflight_count or (preflight == status.preflight_count and is_checking(status))


def _after_its_end(draft: Draft, attempt: SeenAttempt, end: datetime) -> Draft:
    if attempt.deployment_status == "ValidationFailed":  # which is no end to Kueue: the quota would stay reserved
        return draft.does(DeleteAttempt(attempt.ray_job))
    if attempt.has_finished:
        return draft.does(DeleteCluster(attempt.ray_cluster)) if attempt.ray_cluster else draft
    if attempt.ending is not None and draft.now < end + _LAST_WORDS:
        return draft.looks_again(end + _LAST_WORDS)
    return draft.does(DeleteAttempt(attempt.ray_job))
