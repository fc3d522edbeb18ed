"""Preflight: a job is tried on CPUs before it takes machines, and fails if an attempt would for a mistake in it.

Nothing else that becomes of it keeps a job from running: that it broke, or did not end in its time, is noted.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from pretune_api.jobs import JobSpec
from pretune_api.names import Cause
from pretune_api.run_config import RunConfig
from pretune_api.status import Finding
from pretune_operator.causes import held_up, obstacles_of
from pretune_operator.conditions import ConditionType, Reason, condition, is_checking, reason, shortened
from pretune_operator.decision import Decision, StartPreflight
from pretune_operator.draft import Draft
from pretune_operator.findings import read
from pretune_operator.job import JobView
from pretune_operator.naming import preflight_name
from pretune_operator.observed import Observed, SeenPod, SeenPreflight
from pretune_operator.outcome import PATIENCE
from pretune_operator.policies.failure import given_up
from pretune_operator.settings import Preflight

_PODS_WORD: Final = timedelta(seconds=10)
"""Time in which the end of a pod must be seen after that of its Job: another watch tells of it."""
_FATAL: Final = {Cause.USER_ERROR, Cause.STORAGE_DENIED}
"""What ends a job at its first attempt, too."""
_DUE: Final = {None, Reason.SUSPENDED, Reason.RETRIED}
"""Why there is no word of a preflight about the next attempt: none was made, or it was stopped, or is too old."""


def is_wanted(spec: JobSpec, settings: Preflight) -> bool:
    """Whether a job is tried before it takes machines."""
    return settings.enabled if spec.preflight is None else spec.preflight


def preflighted(job: JobView, draft: Draft, seen: Observed, settings: Preflight, config: RunConfig) -> Draft | None:
    """The draft that makes a preflight, waits for it, or takes it in; None where the way is clear."""
    under_way = is_checking(draft.status)
    if not is_wanted(job.spec, settings):
        return _skipped(draft) if under_way else None
    if under_way:
        number = draft.status.preflight_count
        return _followed(draft, preflight_name(job, number), seen.preflights.get(number), settings)
    if reason(draft.status, ConditionType.PREFLIGHT_PASSED) not in _DUE:
        return None
    return _begun(job, draft, config)


def done_without(decision: Decision, generation: int, said: str, now: datetime) -> Decision:
    """What follows where a quota or a policy forbids the preflight that `decision` makes: the job does without."""
    draft = _inconclusive(Draft.begun(decision.status, generation, now), f"its Job was rejected: {said}", "preflight")
    following = draft.decided()
    return replace(following, actions=decision.actions, events=decision.events + following.events)


def _begun(job: JobView, draft: Draft, config: RunConfig) -> Draft:
    number = draft.status.preflight_count + 1
    draft = draft.does(StartPreflight(number, config)).sets(preflight_count=number, preflight=[])
    return _waiting(draft, _trying(preflight_name(job, number)))


def _skipped(draft: Draft) -> Draft:
    message = "The preflight was turned off."
    return draft.says(ConditionType.PREFLIGHT_PASSED, False, Reason.SKIPPED, message).looks_again(draft.now)


def _followed(draft: Draft, name: str, preflight: SeenPreflight | None, settings: Preflight) -> Draft:
    pod = preflight.pod if preflight else None
    if pod is not None and pod.exit_code is not None:
        return _judged(draft, pod, pod.exit_code)
    until = _until(draft, preflight, settings)
    if draft.now >= until:
        return _inconclusive(draft, _unended(name, preflight, settings), f"Job {name}")
    return _waiting(draft, _said(name, preflight)).looks_again(until)


def _said(name: str, preflight: SeenPreflight | None) -> str:
    """What is said of a preflight that has not ended."""
    if preflight is not None and preflight.suspended:
        return f"Job {name} is suspended, as Kueue does with Jobs that it has not admitted."
    pod = preflight.pod if preflight else None
    obstacle = next(obstacles_of(pod), None) if pod else None
    return obstacle.message if obstacle else _trying(name)


def _until(draft: Draft, preflight: SeenPreflight | None, settings: Preflight) -> datetime:
    """When no more is to be hoped for."""
    begin = condition(draft.status, ConditionType.PREFLIGHT_PASSED)
    assert begin is not None, "it is under way"
    if preflight is None:
        return begin.last_transition_time + PATIENCE
    deadline = begin.last_transition_time + timedelta(seconds=settings.deadline_seconds)
    return deadline if preflight.end is None else min(deadline, preflight.end + _PODS_WORD)


def _judged(draft: Draft, pod: SeenPod, exit_code: int) -> Draft:
    """What follows from what a preflight has found; its exit code alone could be that of any other program."""
    findings = read(pod.message or "")
    if not findings:
        return _inconclusive(draft, _broken(pod, exit_code), pod.name)
    draft = draft.sets(preflight=findings).looks_again(draft.now)
    wrong = [finding for finding in findings if finding.result == "Wrong"]
    fatal = [finding for finding in wrong if finding.cause in _FATAL]
    if fatal:
        cause, said = Cause(str(fatal[0].cause)), _sentences(fatal)
        return given_up(draft.says(ConditionType.PREFLIGHT_PASSED, False, cause, f"{said}."), cause, said)
    if wrong:
        message = f"{_sentences(wrong)}; the job proceeds, because this may be temporary."
        return draft.says(ConditionType.PREFLIGHT_PASSED, None, Reason.INCONCLUSIVE, message)
    message = f"No problem was found in {len(findings)} checks; see status.preflight for details."
    return draft.says(ConditionType.PREFLIGHT_PASSED, True, Reason.PASSED, message)


def _inconclusive(draft: Draft, sentence: str, place: str) -> Draft:
    finding = Finding(check="preflight", result="NotKnown", place=place, sentence=shortened(sentence))
    message = f"{place}: {sentence}; the job proceeds."
    draft = draft.sets(preflight=[finding]).looks_again(draft.now)
    return draft.says(ConditionType.PREFLIGHT_PASSED, None, Reason.INCONCLUSIVE, message)


def _waiting(draft: Draft, message: str) -> Draft:
    return draft.says(ConditionType.PREFLIGHT_PASSED, None, Reason.CHECKING, message).says(
        ConditionType.RUNNING, False, Reason.CHECKING, message
    )


def _trying(name: str) -> str:
    return f"Job {name} is checking storage, data and model before the next attempt."


def _broken(pod: SeenPod, exit_code: int) -> str:
    """Why a preflight has ended without findings: the kubelet's word for it, and the last line of its log."""
    last = (pod.message or "").strip().splitlines()[-1:]
    return ": ".join([f"it failed with exit code {exit_code}", *filter(None, [pod.terminated_reason]), *last])


def _unended(name: str, preflight: SeenPreflight | None, settings: Preflight) -> str:
    """Why nothing has come of a preflight."""
    if preflight is None:
        return "it no longer exists, and the operator did not delete it"
    if preflight.problem is not None:
        return f"its pod is gone: {preflight.problem}"
    if preflight.suspended:
        return f"Kueue, or whoever suspends Jobs, did not let it start within {settings.deadline_seconds} s"
    if preflight.pod is None:
        return f"no pod was created within {settings.deadline_seconds} s; see the events of {name}"
    obstacle = next(obstacles_of(preflight.pod), None)
    why = obstacle.message if obstacle else held_up([preflight.pod])
    return f"it did not finish within {settings.deadline_seconds} s{f': {why}' if why else ''}"


def _sentences(findings: list[Finding]) -> str:
    return "; ".join(f"{finding.place}: {finding.sentence}" for finding in findings)
