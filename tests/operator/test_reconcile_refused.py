"""A job that can never run fails with what is wrong, and disturbs nothing that runs or has been trained."""

from datetime import timedelta
from typing import Any

import pytest

from pretune_api.status import Status
from pretune_operator.decision import DeletePreflight
from pretune_operator.observed import Observed, SeenPreflight
from pretune_operator.reconcile import refused
from support.scene import (
    ARTIFACT,
    BEGIN,
    GONE,
    Scene,
    broken,
    complete,
    deleted,
    running,
    started,
    trains,
)


def test_an_invalid_job_fails_with_everything_that_is_wrong() -> None:
    decision = refused(Status(), 1, Observed(), ["spec.model: is missing", "spec.data: is missing"], BEGIN)
    assert decision.actions == ()
    assert decision.status.state == "Failed"
    said = {known.type: known for known in decision.status.conditions}
    assert (said["Accepted"].status, said["Failed"].reason) == ("False", "UserError")
    assert "spec.model: is missing; spec.data: is missing" in said["Failed"].message
    again = refused(decision.status, 1, Observed(), ["spec.model: is missing"], BEGIN)
    assert (again.status, again.events) == (decision.status, ())


def test_a_change_that_makes_a_job_invalid_does_not_disturb_the_attempt_that_runs() -> None:
    scene = Scene()
    scene.settle()
    scene.sees(running()).settle()
    decision = refused(scene.status, 2, scene.seen, ["spec.compute.labels: no"], scene.now)
    assert (decision.actions, decision.status.state) == ((), "Running")
    after = refused(decision.status, 2, Observed({1: broken(**GONE)}), ["spec.compute.labels: no"], scene.now)
    assert (after.actions, after.status.state) == ((), "Failed")
    assert after.status.attempts[0].cause == "UserError"
    assert after.again == timedelta(0)  # what is left of the attempt is seen to next


def test_an_attempt_that_status_does_not_know_goes_on_also_where_its_job_has_become_invalid() -> None:
    decision = refused(Status(), 2, Observed({1: running()}), ["spec.compute.labels: no"], BEGIN)
    assert (decision.actions, decision.status.state, decision.status.attempt_count) == ((), "Running", 1)


def test_the_preflight_of_a_job_that_has_become_invalid_is_awaited_no_more_and_deleted() -> None:
    scene = Scene(preflight=True)
    scene.settle()
    seen = Observed(preflights={1: SeenPreflight(1, "preflight-1")})
    decision = refused(scene.status, 2, seen, ["spec.model: no"], scene.now)
    said = {known.type: known for known in decision.status.conditions}
    assert (said["PreflightPassed"].status, said["PreflightPassed"].reason) == ("False", "NoAttempt")
    assert (decision.status.state, decision.again) == ("Failed", timedelta(0))
    after = refused(decision.status, 2, seen, ["spec.model: no"], scene.now)
    assert after.actions == (DeletePreflight("preflight-1"),)


@pytest.mark.parametrize("left", [{}, GONE])
def test_a_model_that_was_trained_is_published_also_where_its_job_has_become_invalid(left: dict[str, Any]) -> None:
    scene = trains(Scene())
    decision = refused(scene.status, 2, Observed({1: complete(**left)}), ["spec.model: no"], scene.now)
    assert (decision.status.state, decision.status.artifact) == ("Succeeded", ARTIFACT)
    assert decision.status.attempts[0].cause is None


def test_an_attempt_of_a_job_that_has_become_invalid_ends_as_any_other_and_none_follows() -> None:
    scene = trains(Scene())
    decision = refused(scene.status, 2, Observed({1: running(head=None)}), ["spec.model: no"], scene.now)
    assert (decision.status.state, decision.status.failures) == ("Failed", {})
    after = refused(decision.status, 2, Observed({1: running(head=None)}), ["spec.model: no"], scene.now)
    assert deleted([*after.actions]) == ["job-1"]


def test_a_job_that_has_become_invalid_is_drained_where_it_shall_be_suspended() -> None:
    scene = trains(Scene())
    first = refused(scene.status, 2, scene.seen, ["spec.model: no"], scene.now, suspend=True)
    assert (first.actions, first.again) == ((), timedelta(0))
    second = refused(first.status, 2, scene.seen, ["spec.model: no"], scene.now, suspend=True)
    assert deleted([*second.actions]) == ["job-1"]
    last = refused(second.status, 2, Observed(), ["spec.model: no"], scene.now, suspend=True)
    assert (last.status.state, last.status.attempts[0].cause) == ("Failed", None)
    assert last.status.attempts[0].completion_time == scene.now


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"compute": {"pool": "h200"}}, "there is no pool h200"),
        ({"compute": {"pool": "private"}}, "closed to namespace team"),
        ({"compute": {"pool": "small", "gpusPerWorker": 2}}, "more than a node of pool small has"),
        ({"storage": {"uri": "file:///models"}}, "file:///models is not in an object store"),
        ({"data__validation": {"sources": [{"uri": "file:///held"}]}}, "data.validation.sources[0].uri: file:///held"),
    ],
)
def test_what_this_cluster_cannot_give_a_job_is_its_users_error(spec: dict[str, Any], says: str) -> None:
    scene = Scene(**spec)
    assert scene.settle() == []
    assert scene.status.state == "Failed"
    assert scene.condition("Failed").reason == "UserError"
    assert says in scene.condition("Failed").message
    assert scene.says("Accepted") == ("False", "UserError")
    assert scene.told() == ["UserError"]


def test_a_mended_job_starts_once_retry_is_raised() -> None:
    scene = Scene(compute={"pool": "h200"})
    scene.settle()
    assert scene.change(compute={"pool": "a100"}).settle() == []
    assert started(scene.change(retry=1).settle()) == [1]
    assert scene.says("Accepted") == ("True", "Valid")
