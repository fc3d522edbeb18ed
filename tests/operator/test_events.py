"""Events: what people are told of a job, and whether they should look at it."""

from datetime import UTC, datetime

import pytest

from pretune_api.names import Cause
from pretune_api.status import Condition, Status
from pretune_operator.conditions import ConditionType, Reason
from pretune_operator.draft import Draft
from pretune_operator.events import events_between

NOW = datetime(2026, 11, 22, tzinfo=UTC)
NORMAL, WARNING = "Normal", "Warning"


def _condition(about: ConditionType, why: str, value: bool | None = False) -> Condition:
    (condition,) = Draft.begun(Status(), 1, NOW).says(about, value, why, "It is so.").status.conditions
    return condition


def _told(*after: Condition, before: tuple[Condition, ...] = ()) -> list[tuple[str, str]]:
    events = events_between(Status(conditions=list(before)), Status(conditions=list(after)))
    return [(event.type, event.reason) for event in events]


@pytest.mark.parametrize(
    ("about", "why", "kind"),
    [
        (ConditionType.INPUTS_RESOLVED, Reason.PARENT_MISSING, WARNING),
        (ConditionType.INPUTS_RESOLVED, Reason.PARENT_FAILED, WARNING),
        (ConditionType.INPUTS_RESOLVED, Reason.PARENT_CYCLE, WARNING),
        (ConditionType.INPUTS_RESOLVED, Reason.PARENT_RUNNING, NORMAL),
        (ConditionType.PREFLIGHT_PASSED, Reason.INCONCLUSIVE, WARNING),
        (ConditionType.PREFLIGHT_PASSED, "ImagePullBackOff", WARNING),
        (ConditionType.RUNNING, Reason.KUBERAY_UNAVAILABLE, WARNING),
        (ConditionType.RUNNING, Reason.TRAINING, NORMAL),
        (ConditionType.QUOTA_RESERVED, Reason.KUEUE_MISSING, WARNING),
        (ConditionType.QUOTA_RESERVED, Reason.EVICTED, NORMAL),
        (ConditionType.SUSPENDED, Reason.DRAINING, NORMAL),
        (ConditionType.FAILED, Reason.RETRIED, NORMAL),
    ],
)
def test_a_warning_is_what_somebody_should_look_at(about: ConditionType, why: str, kind: str) -> None:
    assert _told(_condition(about, why)) == [(kind, why)]


def test_the_end_is_told_once() -> None:
    for about, why, kind in (
        (ConditionType.SUCCEEDED, Reason.SUCCEEDED, NORMAL),
        (ConditionType.FAILED, Cause.USER_ERROR, WARNING),
    ):
        ended = (_condition(about, why, value=True), _condition(ConditionType.FINISHED, why, value=True))
        assert _told(*ended) == [(kind, why)]
        assert _told(*ended, before=ended) == []


@pytest.mark.parametrize(
    "why",
    [
        Reason.NO_ATTEMPT,
        Reason.CHECKING,
        Reason.CREATED,
        Reason.STARTING,
        Reason.SUBMITTED,
        Reason.AWAITING_RESULT,
        Reason.BACKING_OFF,
        Reason.CLEANING_UP,
        Reason.QUEUED,
        Reason.EVICTED,
        Reason.SUSPENDED,
        Reason.SUCCEEDED,
        Reason.FAILED,
    ],
)
def test_what_goes_without_saying_or_is_said_elsewhere_is_no_news(why: Reason) -> None:
    assert _told(_condition(ConditionType.RUNNING, why)) == []


def test_what_a_spec_is_refused_for_is_told_as_the_job_s_failure_alone() -> None:
    refused = [
        _condition(about, Cause.USER_ERROR) for about in (ConditionType.ACCEPTED, ConditionType.PREFLIGHT_PASSED)
    ]
    failed = _condition(ConditionType.FAILED, Cause.USER_ERROR, value=True)
    assert _told(*refused, failed) == [(WARNING, Cause.USER_ERROR)]
    assert _told(_condition(ConditionType.ACCEPTED, Reason.VALID, value=True)) == []
