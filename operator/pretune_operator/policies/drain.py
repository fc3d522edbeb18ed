"""Suspension: an attempt is stopped so that it commits first, and its machines are given back before status says so."""

from pretune_operator.conditions import ConditionType, Reason, condition, is_checking, is_draining
from pretune_operator.draft import Draft
from pretune_operator.observed import Observed


def drained(draft: Draft) -> Draft:
    """Status says that the current attempt shall drain; once it does, the attempt is deleted."""
    if is_draining(draft.status):
        return draft
    message = "spec.suspend is set: the run commits a checkpoint, then its pods are deleted."
    return draft.says(ConditionType.SUSPENDED, False, Reason.DRAINING, message).looks_again(draft.now)


def suspended(draft: Draft, seen: Observed) -> Draft:
    """No attempt goes on; the job is suspended once nothing of the last one, or of a preflight, holds a machine."""
    message = "spec.suspend is set; set it to false to resume from the last commit."
    if is_checking(draft.status):
        draft = draft.says(ConditionType.PREFLIGHT_PASSED, False, Reason.SUSPENDED, message)
    if seen.in_the_way or seen.preflights:
        return drained(draft)
    return (
        draft.says(ConditionType.SUSPENDED, True, Reason.SUSPENDED, message)
        .says(ConditionType.RUNNING, False, Reason.SUSPENDED, message)
        .takes_back(ConditionType.QUOTA_RESERVED, Reason.NO_ATTEMPT, message)
    )


def resumed(draft: Draft) -> Draft:
    """The user does not want the job to be suspended (any more)."""
    known = condition(draft.status, ConditionType.SUSPENDED)
    if known is None or known.reason == Reason.RESUMED:
        return draft
    return draft.says(ConditionType.SUSPENDED, False, Reason.RESUMED, "spec.suspend is no longer set.")
