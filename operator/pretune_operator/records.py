"""What status says of attempts: one record each, kept up with what is seen, and closed once."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from pretune_api.names import Cause
from pretune_api.status import Attempt, Status
from pretune_operator.conditions import ConditionType, Reason, shortened
from pretune_operator.draft import Draft
from pretune_operator.observed import SeenAttempt, SeenProgress

_KEPT: Final = 10
_COUNTED_EVERY: Final = 60.0
"""Seconds after which the time that an attempt holds machines is added up while it lasts."""


def current(status: Status) -> Attempt | None:
    """The record of the attempt that has not ended, if there is one."""
    last = status.attempts[-1] if status.attempts else None
    return last if last is not None and last.completion_time is None else None


def ongoing(status: Status) -> Attempt:
    """The record of the attempt that has not ended, where there must be one."""
    record = current(status)
    assert record is not None, "an attempt goes on"
    return record


def record_of(status: Status, number: int) -> Attempt | None:
    """The record of attempt `number`; only the last ones are kept."""
    return next((record for record in status.attempts if record.number == number), None)


def opened(draft: Draft, number: int, ray_job: str, gpus: int, at: datetime) -> Draft:
    """A record for an attempt that was made at that time."""
    status = draft.status
    record = Attempt(
        number=number,
        ray_job=ray_job,
        gpus=gpus,
        start_time=at,
        last_run=status.attempts[-1].last_run if status.attempts else 0,
    )
    return draft.sets(
        attempts=[*status.attempts, record][-_KEPT:],
        attempt_count=number,
        start_time=status.start_time or at,
        next_attempt_time=None,
    ).says(ConditionType.RUNNING, False, Reason.CREATED, f"RayJob {ray_job} has been created.")


def adopted(draft: Draft, seen: Mapping[int, SeenAttempt]) -> Draft:
    """Records for attempts that were made before a crash kept status from saying so."""
    for number in sorted(number for number in seen if number > draft.status.attempt_count):
        draft = opened(draft, number, seen[number].ray_job, seen[number].gpus, seen[number].created)
    return draft


def kept_up(draft: Draft, attempt: SeenAttempt) -> Draft:
    """The current record, and what status says of the job's progress, brought up to date."""
    record, progress = ongoing(draft.status), attempt.progress
    changes = {
        "gpus": attempt.gpus or record.gpus,
        "ray_cluster": attempt.ray_cluster or record.ray_cluster,
        "log": (attempt.ending.log if attempt.ending else None) or record.log,
        **(_runs(record, progress) if progress else {}),
    }
    until = min(draft.now, attempt.end or draft.now)
    draft = _counted(with_current(draft, record.model_copy(update=changes)), _holds_machines(attempt), until)
    return _progressed(draft, progress) if progress else draft


def closed(draft: Draft, cause: Cause | None, message: str | None) -> Draft:
    """The current record, ended now; without a cause, it did not fail."""
    draft = _counted(draft, active=False, until=draft.now)
    record = ongoing(draft.status)
    changes = {"cause": cause and cause.value, "message": message and shortened(message), "completion_time": draft.now}
    draft = with_current(draft, record.model_copy(update=changes))
    return draft.takes_back(ConditionType.QUOTA_RESERVED, Reason.NO_ATTEMPT, f"Attempt {record.number} has ended.")


def counted_next(draft: Draft) -> datetime:
    """When the time that the current attempt holds machines is added up again."""
    return (ongoing(draft.status).active_since or draft.now) + timedelta(seconds=_COUNTED_EVERY)


def active_seconds(status: Status, now: datetime) -> float:
    """Seconds that all attempts have held machines until now."""
    record = current(status)
    since = record.active_since if record else None
    return status.active_seconds + (_seconds(since, now) if since else 0.0)


def with_current(draft: Draft, record: Attempt) -> Draft:
    """The draft with another current record."""
    return draft.sets(attempts=[*draft.status.attempts[:-1], record])


def _runs(record: Attempt, progress: SeenProgress) -> dict[str, int | None]:
    """Runs are numbered through all attempts, so a difference counts those of this one, seen or not."""
    run = max(progress.run or 0, record.last_run)
    return {
        "runs": record.runs + run - record.last_run,
        "last_run": run,
        "from_step": progress.from_step if record.from_step is None else record.from_step,
    }


def _progressed(draft: Draft, seen: SeenProgress) -> Draft:
    if seen.metrics:
        draft = draft.sets(metrics=seen.metrics)
    if not seen.steps.total:
        return draft
    before, progress = draft.status.progress, seen.steps
    if progress.checkpoint_step is None and before:
        progress = progress.model_copy(update={"checkpoint_step": before.checkpoint_step})
    return draft.sets(progress=progress)


def _holds_machines(attempt: SeenAttempt) -> bool:
    """Whether its driver runs, or a worker has a node. The head alone is cheap, and no GPU is idle for it.

    What remains after its end is not the job's to answer for: an operator that was away would charge it for that.
    """
    if attempt.end is not None:
        return False
    return attempt.is_running or any(pod.holds_machine for pod in attempt.workers)


def _counted(draft: Draft, active: bool, until: datetime) -> Draft:
    record = ongoing(draft.status)
    since = record.active_since
    if since is None:
        return with_current(draft, record.model_copy(update={"active_since": until})) if active else draft
    seconds = _seconds(since, until)
    if active and seconds < _COUNTED_EVERY:
        return draft
    counted = {"active_since": until if active else None, "active_seconds": record.active_seconds + seconds}
    return with_current(draft, record.model_copy(update=counted)).sets(
        active_seconds=draft.status.active_seconds + seconds,
        gpu_seconds=draft.status.gpu_seconds + seconds * record.gpus,
    )


def _seconds(since: datetime, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds())
