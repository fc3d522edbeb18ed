"""A job that shall stop for a while, or has had its time, stops in order; and what is over is removed in time."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pretune_api.names import ExitCode
from pretune_api.problems import parse
from pretune_operator.decision import DeleteAttempt, DeleteLeftovers
from pretune_operator.job import JobView
from pretune_operator.observed import Observed, SeenAttempt
from pretune_operator.reconcile import reconcile
from support.scene import (
    BEGIN,
    GONE,
    HEAD,
    SETTINGS,
    WORKER,
    Scene,
    attempt,
    broken,
    complete,
    deleted,
    ending,
    ends,
    failing,
    progress,
    running,
    started,
)
from support.specs import FINETUNE

QUEUE = {"kueue.x-k8s.io/queue-name": "team"}


# --- suspension


def test_a_running_job_drains_before_it_is_suspended() -> None:
    scene = Scene()
    scene.settle()
    scene.sees(running()).settle()
    scene.change(suspend=True)
    assert scene.decide().actions == ()
    assert deleted(scene.settle()) == ["job-1"]
    assert scene.says("Suspended") == ("False", "Draining")
    states = [scene.status.state]
    stopped = progress(ending=ending(ExitCode.STOPPED, "asked to stop"))
    scene.sees(running(deleting=True, progress=stopped)).settle()
    assert scene.says("Suspended") == ("False", "Draining")
    scene.sees().settle()
    assert scene.says("Suspended") == ("True", "Suspended")
    assert [*states, scene.status.state] == ["Running", "Suspended"]
    assert (scene.last.cause, scene.status.failures) == (None, {})
    assert scene.says("QuotaReserved") == ("False", "NoAttempt")


def test_a_resumed_job_begins_another_attempt() -> None:
    scene = Scene()
    scene.settle()
    scene.sees(running()).settle()
    scene.change(suspend=True).settle()
    scene.sees().settle()
    assert started(scene.change(suspend=False).settle()) == [2]
    assert scene.says("Suspended") == ("False", "Resumed")


def test_a_drain_that_has_begun_is_carried_through_even_if_the_user_thinks_better_of_it() -> None:
    scene = Scene()
    scene.settle()
    scene.sees(running()).settle()
    scene.change(suspend=True).settle()
    assert started(scene.change(suspend=False).sees(running(deleting=True)).settle()) == []
    assert started(scene.sees().settle()) == [2]
    assert scene.status.failures == {}
    assert "Suspended" not in scene.told()


def test_pods_that_drain_longer_than_their_ray_job_is_there_are_not_said_to_start() -> None:
    scene = Scene()
    scene.settle()
    scene.sees(running()).settle()
    scene.change(suspend=True).settle()
    scene.after(600).sees(running(deleting=True, deployment_status="", job_status="")).settle()
    assert scene.says("Running") == ("True", "Training")


@pytest.mark.parametrize("seen", [attempt(), attempt(suspended=True, deployment_status="Suspended")])
def test_a_job_can_be_suspended_while_it_is_queued_or_starts(seen: SeenAttempt) -> None:
    scene = Scene()
    scene.settle()
    scene.sees(seen).settle()
    assert deleted(scene.change(suspend=True).settle()) == ["job-1"]
    scene.sees().settle()
    assert scene.status.state == "Suspended"


def test_a_job_that_is_suspended_from_the_start_makes_nothing() -> None:
    scene = Scene(suspend=True)
    assert scene.settle() == []
    assert scene.status.state == "Suspended"
    assert started(scene.change(suspend=False).settle()) == [1]


def test_a_job_can_be_suspended_while_it_waits_for_a_parent() -> None:
    scene = Scene(FINETUNE)
    scene.settle()
    scene.change(suspend=True).settle()
    states = [scene.status.state]
    scene.change(suspend=False).settle()
    assert [*states, scene.status.state] == ["Suspended", "Waiting"]


def test_a_job_can_be_suspended_while_it_backs_off() -> None:
    scene = Scene()
    scene.settle()
    scene.sees(running()).settle()
    scene.sees(failing("Network", **GONE)).settle()
    scene.change(suspend=True).settle()
    assert scene.status.state == "Suspended"
    assert started(scene.after(11).settle()) == []
    assert started(scene.change(suspend=False).settle()) == [2]


def test_a_job_that_finishes_while_it_drains_has_finished() -> None:
    scene = Scene()
    scene.settle()
    scene.sees(running()).settle()
    scene.change(suspend=True).settle()
    scene.sees(complete(deleting=True)).settle()
    assert scene.status.state == "Succeeded"
    assert scene.says("Suspended")[0] == "False"


def test_a_drained_attempt_that_nobody_asked_for_was_preempted() -> None:
    scene = Scene()
    scene.settle()
    scene.sees(running()).settle()
    scene.sees(broken(progress=progress(ending=ending(ExitCode.STOPPED, "asked to stop")))).settle()
    assert scene.last.cause == "Preempted"


def test_a_failed_job_is_not_suspended() -> None:
    scene = Scene()
    scene.settle()
    scene.sees(failing("UserError")).settle()
    scene.change(suspend=True).settle()
    assert scene.status.state == "Failed"


# --- deadlines and time to live


def test_the_active_deadline_counts_all_attempts_and_no_waiting() -> None:
    scene = Scene(labels=QUEUE, activeDeadlineSeconds=100, failurePolicy__backoffSeconds=0)
    scene.settle()
    scene.after(500).sees(attempt(suspended=True)).settle()
    scene.sees(running()).settle()
    scene.after(60).sees(failing("Network", **GONE)).settle()
    scene.sees(running(2)).settle()
    assert scene.again is not None
    assert scene.again.total_seconds() == 40
    assert scene.status.state == "Running"
    assert deleted(scene.after(40).settle()) == ["job-2"]
    assert scene.says("Failed") == ("True", "DeadlineExceeded")
    assert scene.last.cause == "DeadlineExceeded"
    assert "activeDeadlineSeconds" in scene.condition("Failed").message


def test_the_active_deadline_ends_also_an_attempt_whose_workers_hold_machines_and_wait_for_others() -> None:
    scene = Scene(activeDeadlineSeconds=100, failurePolicy__startDeadlineSeconds=600)
    scene.settle()
    scene.sees(attempt(head=HEAD, workers=(WORKER, replace(WORKER, phase="Pending", node=None)))).settle()
    assert scene.again is not None
    assert scene.again.total_seconds() == 100
    scene.after(100).settle()
    assert scene.says("Failed") == ("True", "DeadlineExceeded")


def test_a_raised_deadline_and_retry_go_on() -> None:
    scene = Scene(activeDeadlineSeconds=100)
    scene.settle()
    scene.sees(running()).settle()
    scene.after(100).settle()
    scene.sees()
    assert started(scene.change(retry=1).settle()) == []
    assert scene.says("Failed") == ("True", "DeadlineExceeded")
    assert started(scene.change(retry=2, activeDeadlineSeconds=200).settle()) == [2]


def test_what_a_finished_job_consisted_of_goes_when_their_time_has_come() -> None:
    scene = Scene(ttlSecondsAfterFinished=3600)
    scene.settle()
    scene.sees(running()).settle()
    scene.sees(complete()).settle()
    scene.sees(complete(**GONE)).settle()
    again = [scene.again]
    assert scene.after(3600).settle() == [DeleteLeftovers(), DeleteAttempt("job-1")]
    assert scene.sees(complete(deleting=True, **GONE)).settle() == []
    scene.sees().settle()
    assert [*again, scene.again] == [timedelta(seconds=3600), None]
    assert scene.status.state == "Succeeded"


@pytest.mark.parametrize("time_to_live", [0, 3600])
def test_what_a_stopped_attempt_has_left_goes_after_its_pods_when_its_time_has_come(time_to_live: int) -> None:
    scene = Scene(activeDeadlineSeconds=100, ttlSecondsAfterFinished=time_to_live)
    scene.settle()
    scene.sees(running()).settle()
    assert scene.after(100).settle() == [DeleteAttempt("job-1")]
    assert scene.sees(running(deleting=True)).settle() == []
    assert scene.sees().after(time_to_live).settle() == [DeleteLeftovers()]


def test_what_attempts_have_left_is_not_sought_for_ever_but_goes_with_their_ray_jobs() -> None:
    scene = ends(Scene(ttlSecondsAfterFinished=0), complete()).sees(complete(**GONE)).after(1_000_000)
    assert scene.settle() == [DeleteLeftovers(), DeleteAttempt("job-1")]
    assert scene.sees().settle() == []


def test_an_attempt_that_shows_up_once_its_job_has_failed_is_deleted() -> None:
    """The API server has made it, but its answer was lost; what made the job fail came in between."""
    scene = Scene(compute={"pool": "private"})
    scene.settle()
    assert deleted(scene.sees(running()).settle()) == ["job-1"]
    assert (scene.status.state, scene.status.attempt_count) == ("Failed", 0)


def test_a_time_to_live_may_be_set_afterwards() -> None:
    scene = Scene()
    scene.settle()
    scene.sees(running()).settle()
    scene.sees(complete()).settle()
    assert deleted(scene.after(60).change(ttlSecondsAfterFinished=10).settle()) == ["job-1"]


def test_of_a_job_that_is_being_deleted_nothing_is_decided() -> None:
    scene = Scene()
    view = JobView(parse(scene.document), "0123-4567", "team", 1, scene.status, deleting=True)
    decision = reconcile(view, Observed({1: running()}), SETTINGS, BEGIN)
    assert (decision.actions, decision.status) == ((), scene.status)
