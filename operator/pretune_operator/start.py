"""The next attempt, or what it waits for."""

from datetime import datetime, timedelta
from typing import Final

from pretune_api.names import Cause, Label
from pretune_api.run_config import RunConfig
from pretune_api.status import Status
from pretune_operator.conditions import ConditionType, Reason, condition, holds, reason
from pretune_operator.decision import Decision, StartAttempt, StartPreflight
from pretune_operator.draft import Draft
from pretune_operator.errors import UnfitError
from pretune_operator.inputs import folders, resolved
from pretune_operator.job import JobView
from pretune_operator.naming import attempt_name
from pretune_operator.observed import Cluster, Observed
from pretune_operator.plan import Inputs, plan, ranks_of
from pretune_operator.policies.failure import given_up, time_is_up
from pretune_operator.policies.preflight import done_without, preflighted
from pretune_operator.pools import device_of, pool_of
from pretune_operator.records import opened
from pretune_operator.settings import Settings
from pretune_operator.stores import check_stores

RECHECK: Final = timedelta(seconds=60)
"""When to look again at what no event tells of: KubeRay or Kueue being installed, a pod that does not leave."""


def started(job: JobView, draft: Draft, seen: Observed, settings: Settings) -> Draft:
    """Start the next attempt; or say what it waits for; or give up, where it can never start."""
    try:
        pool_of(job.spec.compute, job.namespace, settings)
        check_stores(job.spec)
    except UnfitError as error:
        draft = draft.says(ConditionType.ACCEPTED, False, Cause.USER_ERROR, str(error))
        return given_up(draft, Cause.USER_ERROR, str(error))
    if too_long := time_is_up(job.spec, draft.status, draft.now):
        return given_up(draft, Cause.DEADLINE_EXCEEDED, too_long)
    draft = resolved(job, draft, seen)
    if reason(draft.status, ConditionType.INPUTS_RESOLVED) == Reason.PARENT_CYCLE:
        return given_up(draft, Cause.USER_ERROR, _said(draft, ConditionType.INPUTS_RESOLVED))
    if (draft.status.inputs, draft.status.image) != (draft.before.inputs, draft.before.image):
        # Nothing is made from what status does not know yet: after a crash, it might be something else.
        return draft.looks_again(draft.now)
    return _waiting(job, draft, seen) or _cleared(job, draft, seen, settings)


def forbidden(before: Status, decision: Decision, generation: int, said: str, now: datetime) -> Decision:
    """What follows where a quota or a policy of the cluster forbids what `decision` makes.

    The job does without a preflight; an attempt has not begun. `before` is what status says, `said` what the API server
    says.
    """
    if any(isinstance(action, StartPreflight) for action in decision.actions):
        return done_without(decision, generation, said, now)
    message = f"The API server rejects the objects of the attempt: {said}; the operator retries every minute."
    draft = Draft(before, decision.status, generation, now).sets(
        attempts=before.attempts, attempt_count=before.attempt_count, start_time=before.start_time
    )
    draft = draft.says(ConditionType.RUNNING, False, Reason.REFUSED, message)
    return (
        draft.takes_back(ConditionType.QUOTA_RESERVED, Reason.NO_ATTEMPT, message).looks_again(now + RECHECK).decided()
    )


def without_queue(draft: Draft) -> Draft:
    """Nobody rations the machines of the attempt."""
    return draft.says(ConditionType.QUOTA_RESERVED, True, Reason.NO_QUEUE, "The job names no queue.")


def _waiting(job: JobView, draft: Draft, seen: Observed) -> Draft | None:
    """The draft that says what is waited for; None where the way is clear."""
    if not holds(draft.status, ConditionType.INPUTS_RESOLVED):
        return draft.says(ConditionType.RUNNING, False, Reason.NO_ATTEMPT, _said(draft, ConditionType.INPUTS_RESOLVED))
    lacking = _lacking(job, draft, seen.cluster)
    if lacking is not None:
        return lacking.looks_again(draft.now + RECHECK)
    at = draft.status.next_attempt_time
    if at is not None and draft.now < at:
        return draft.says(ConditionType.RUNNING, False, Reason.BACKING_OFF, _pause(draft)).looks_again(at)
    if seen.in_the_way:
        names = ", ".join(attempt.ray_job for attempt in seen.in_the_way)
        return draft.says(
            ConditionType.RUNNING, False, Reason.CLEANING_UP, f"Waiting until the pods of {names} are gone."
        )
    return None


def _lacking(job: JobView, draft: Draft, cluster: Cluster) -> Draft | None:
    """What the cluster's administrator has to install first."""
    if cluster.kuberay_problem is not None:
        return draft.says(ConditionType.RUNNING, False, Reason.KUBERAY_UNAVAILABLE, cluster.kuberay_problem)
    queue = job.labels.get(Label.QUEUE)
    if queue is not None and not cluster.kueue:
        message = (
            f"The label {Label.QUEUE} names queue {queue}, but Kueue is not installed; install it, or remove the label."
        )
        return draft.says(ConditionType.QUOTA_RESERVED, False, Reason.KUEUE_MISSING, message).says(
            ConditionType.RUNNING, False, Reason.NO_ATTEMPT, message
        )
    return None


def _cleared(job: JobView, draft: Draft, seen: Observed, settings: Settings) -> Draft:
    number = draft.status.attempt_count + 1
    config = _config(job, draft, number)
    return preflighted(job, draft, seen, settings.preflight, config) or _begun(job, draft, number, config)


def _config(job: JobView, draft: Draft, number: int) -> RunConfig:
    compute = job.spec.compute
    inputs = Inputs(
        uid=job.uid,
        namespace=job.namespace,
        ranks=ranks_of(compute),
        device=device_of(compute),
        artifacts=folders(draft.status),
        attempt=number,
    )
    return plan(job.resource, inputs)


def _begun(job: JobView, draft: Draft, number: int, config: RunConfig) -> Draft:
    compute = job.spec.compute
    name = attempt_name(job, number)
    draft = draft.does(StartAttempt(number, config))
    draft = opened(draft, number, name, compute.workers * compute.gpus_per_worker, draft.now)
    if Label.QUEUE in job.labels:
        return draft.says(ConditionType.QUOTA_RESERVED, False, Reason.QUEUED, f"Kueue has not admitted {name} yet.")
    return without_queue(draft)


def _pause(draft: Draft) -> str:
    """What is said already names the failure; after a suspension, it does not."""
    if reason(draft.status, ConditionType.RUNNING) == Reason.BACKING_OFF:
        return _said(draft, ConditionType.RUNNING)
    return f"The next attempt starts at {draft.status.next_attempt_time:%H:%M:%S} UTC."


def _said(draft: Draft, about: ConditionType) -> str:
    known = condition(draft.status, about)
    return known.message if known else ""
