"""An attempt that failed has a cause, and is followed by another as long as the cause has a budget."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from pretune_api.names import Cause, ExitCode
from pretune_operator.causes import HANDLING
from pretune_operator.decision import StartAttempt
from pretune_operator.observed import SeenAttempt, SeenPod
from support.scene import (
    BEGIN,
    FAST,
    GONE,
    HEAD,
    WORKER,
    Scene,
    attempt,
    broken,
    clusters_deleted,
    deleted,
    ending,
    ends,
    failing,
    progress,
    running,
    started,
    trains,
)


def test_a_failed_attempt_keeps_the_last_lines_of_its_log_and_the_next_one_its_number() -> None:
    said = ending(ExitCode.FAILED, "it broke", "Network", log="NCCL WARN\nit broke")
    scene = trains(Scene(**FAST))
    actions = scene.sees(broken(progress=progress(ending=said))).settle()
    assert scene.last.log == "NCCL WARN\nit broke"
    actions += scene.sees(broken(1, **GONE)).after(600).settle()
    assert [each.config.attempt for each in actions if isinstance(each, StartAttempt)] == [2]
    assert [record.log for record in scene.status.attempts] == ["NCCL WARN\nit broke", None]
    assert (scene.status.start_time, scene.last.start_time) == (BEGIN, scene.now)


@pytest.mark.parametrize("cause", ["UserError", "StorageDenied", "NumericalError"])
def test_what_no_repetition_mends_is_not_tried_again(cause: str) -> None:
    scene = ends(Scene(), failing(cause, "spec.training: loss is nan"))
    scene.sees(broken(1, **GONE))
    assert started(scene.after(10_000).settle()) == []
    assert scene.status.state == "Failed"
    assert scene.condition("Failed").reason == cause
    assert scene.condition("Failed").message.startswith("spec.training: loss is nan. To continue: ")
    assert scene.last.cause == cause
    assert scene.told()[-1] == cause


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (broken(head=replace(HEAD, phase="Failed", terminated_reason="OOMKilled")), "OutOfMemory"),
        (broken(head=None, workers=(replace(WORKER, terminated_reason="OOMKilled"),)), "OutOfMemory"),
        (broken(head=None, workers=(replace(WORKER, disruption="PreemptionByScheduler"),)), "Preempted"),
        (broken(head=None, workers=(replace(WORKER, node_lost=True),)), "NodeLost"),
        (broken(head=None, workers=(replace(WORKER, disruption="DeletionByPodGC"),)), "NodeLost"),
        (broken(head=None), "Unknown"),
        (failing("Unknown", head=HEAD, workers=(replace(WORKER, node_lost=True),)), "NodeLost"),
        (
            failing("StorageUnavailable", workers=(replace(WORKER, terminated_reason="OOMKilled"),)),
            "StorageUnavailable",
        ),
        (failing("SomethingNew"), "Unknown"),
        (broken(progress=progress(ending=ending(ExitCode.STOPPED, "stopped"))), "Preempted"),
        (broken(reason="DeadlineExceeded"), "DeadlineExceeded"),
        (attempt(deployment_status="ValidationFailed", reason="ValidationFailed", message="no"), "UserError"),
        (attempt(deployment_status="Failed", reason="PreRunningDeadlineExceeded"), "Unknown"),
        (failing("Network", deployment_status="Running", deleting=True, head=None, workers=()), "Network"),
        (running(head=None), "HeadLost"),
        (running(head=replace(HEAD, phase="Failed")), "HeadLost"),
        (running(head=replace(HEAD, node_lost=True)), "NodeLost"),
        (running(head=replace(HEAD, phase="Failed", disruption="EvictionByEvictionAPI")), "Preempted"),
        (running(head=replace(HEAD, phase="Failed", terminated_reason="OOMKilled")), "OutOfMemory"),
    ],
)
def test_every_end_has_a_cause(seen: SeenAttempt, cause: str) -> None:
    scene = ends(Scene(), seen)
    assert scene.last.cause == cause
    assert scene.status.failures == {cause: 1}


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (failing("SomethingNew", "the disk is full", **GONE), "the disk is full"),
        (
            broken(progress=progress(ending=ending(ExitCode.STOPPED, "stopped as requested after step 5"))),
            "its pods were asked to terminate, such as by a node drain: stopped as requested after step 5",
        ),
        (broken(message="a stack\nexit code 1\n\n", **GONE), "Ray reports FAILED: exit code 1"),
        (broken(message="", **GONE), "Ray reports FAILED: no details"),
        (broken(job_status="", message="", **GONE), "Ray reports Failed: no details"),
        (broken(reason="DeadlineExceeded", message="too long"), "KubeRay reports DeadlineExceeded: too long"),
        (broken(head=None, workers=(replace(WORKER, node_lost=True),)), "node node-1 with worker is lost"),
        (broken(head=None, workers=(replace(WORKER, node=None, node_lost=True),)), "the node of worker is lost"),
        (
            broken(head=None, workers=(replace(WORKER, disruption="DeletionByTaintManager"),)),
            "worker had to leave its node: DeletionByTaintManager",
        ),
        (
            broken(head=None, workers=(replace(WORKER, terminated_reason="OOMKilled"),)),
            "host: worker exceeded its memory limit and was killed; raise spec.compute.resources.memory",
        ),
    ],
)
def test_every_end_is_told_in_a_sentence(seen: SeenAttempt, says: str) -> None:
    assert ends(Scene(), seen).last.message == says


@pytest.mark.parametrize("ends_with", [broken, running])
def test_a_head_without_memory_names_the_field_that_gives_it_some(ends_with: Callable[..., SeenAttempt]) -> None:
    killed = replace(HEAD, phase="Failed", terminated_reason="OOMKilled")
    scene = ends(Scene(), ends_with(head=killed, workers=()))
    assert str(scene.last.message).endswith("raise settings.head.resources.memory of the chart")


def test_a_head_that_leaves_is_not_lost_before_it_has_left() -> None:
    scene = ends(Scene(), running(head=replace(HEAD, deleting=True)))
    assert scene.last.completion_time is None


def test_the_last_word_of_a_driver_ends_its_attempt_before_kuberay_notices() -> None:
    said = progress(ending=ending(ExitCode.FAILED, "it went wrong", "Network"))
    assert ends(Scene(), running(progress=said)).status.failures == {"Network": 1}


def test_the_last_word_of_a_driver_that_failed_is_waited_for_while_its_head_is_there() -> None:
    scene = ends(Scene(), broken(progress=progress()))
    assert scene.says("Running") == ("Unknown", "AwaitingResult")
    assert scene.sees(failing("Network")).settle() != []
    assert scene.status.failures == {"Network": 1}


def test_what_kept_a_worker_from_starting_once_is_not_why_the_attempt_failed_later() -> None:
    pending = replace(WORKER, phase="Pending", node=None, unschedulable="0/3 nodes are available")
    scene = ends(Scene(), running(workers=(pending,)))
    assert scene.says("Running") == ("True", "Unschedulable")
    scene.sees(broken(**GONE)).settle()
    assert scene.status.failures == {"Unknown": 1}


def test_a_lost_worker_is_for_ray_train_to_replace() -> None:
    pending = replace(WORKER, phase="Pending", node=None, unschedulable="0/3 nodes are available")
    scene = ends(Scene(), running(workers=(pending,)))
    assert scene.last.completion_time is None
    assert scene.status.state == "Running"
    assert scene.says("Running") == ("True", "Unschedulable")


def test_a_worker_that_runs_again_after_it_was_killed_is_no_obstacle() -> None:
    scene = ends(Scene(), running(workers=(replace(WORKER, terminated_reason="OOMKilled"),)))
    assert scene.says("Running") == ("True", "Training")


def test_the_attempt_of_a_lost_head_is_deleted_before_the_next_one_begins() -> None:
    scene = trains(Scene(**FAST)).sees(running(head=None))
    assert deleted(scene.settle()) == ["job-1"]
    assert scene.status.attempt_count == 1
    assert scene.status.state == "Waiting"
    scene.sees(running(head=None, deleting=True))
    assert scene.settle() == []
    scene.sees(running(head=None, deleting=True, workers=(replace(WORKER, node_lost=True),)))
    assert started(scene.settle()) == [2]


def test_the_ray_cluster_of_a_failed_attempt_goes_and_its_ray_job_stays() -> None:
    scene = trains(Scene()).sees(failing("Network"))
    actions = scene.settle()
    assert (clusters_deleted(actions), deleted(actions)) == (["cluster-1"], [])


def test_pauses_double_and_are_told() -> None:
    scene = Scene(failurePolicy__retries__interrupted=9)
    pauses = []
    for number in range(1, 9):
        scene.settle()
        scene.sees(running(number)).settle()
        scene.sees(failing("Network", number=number, head=None, workers=())).settle()
        assert scene.status.next_attempt_time is not None
        pauses.append((scene.status.next_attempt_time - scene.now).total_seconds())
        assert scene.again is not None
        assert scene.again.total_seconds() == pauses[-1]
        assert started(scene.after(pauses[-1] - 1).settle()) == []
        assert scene.says("Running") == ("False", "BackingOff")
        assert scene.status.state == "Waiting"
        assert started(scene.after(1).settle()) == [number + 1]
        assert scene.status.next_attempt_time is None
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600]


def test_a_pause_names_the_failure_for_as_long_as_it_lasts_and_its_end_also_after_a_suspension() -> None:
    scene = ends(Scene(), failing("Network", "a connection broke", **GONE))
    assert scene.status.next_attempt_time is not None
    end = f"he next attempt starts at {scene.status.next_attempt_time:%H:%M:%S} UTC."
    assert scene.says("Running") == ("False", "BackingOff")
    scene.after(1).settle()
    assert scene.condition("Running").message == f"a connection broke; t{end}"
    scene.change(suspend=True).settle()
    scene.change(suspend=False).settle()
    assert scene.condition("Running").message == f"T{end}"


def test_pauses_begin_anew_after_an_attempt_that_ran_for_long() -> None:
    scene = Scene()
    for number in (1, 2):
        scene.settle()
        scene.sees(running(number)).settle()
        scene.after(3600).sees(failing("Network", number=number, head=None, workers=())).settle()
        assert scene.status.next_attempt_time is not None
        assert (scene.status.next_attempt_time - scene.now).total_seconds() == 10
        scene.after(10).settle()


@pytest.mark.parametrize(
    ("causes", "budget"),
    [
        (["OutOfMemory"], {"outOfMemory": 2}),
        (["Unknown"], {"unknown": 2}),
        (["NodeLost", "Preempted", "HeadLost", "Network", "StorageUnavailable"], {"interrupted": 2}),
    ],
)
def test_each_budget_is_spent_to_its_end_and_no_further(causes: list[str], budget: dict[str, int]) -> None:
    scene = Scene(failurePolicy={"backoffSeconds": 0, "retries": budget})
    for number in (1, 2, 3):
        assert started(scene.settle()) == [number]
        cause = causes[number % len(causes)]
        scene.sees(failing(cause, "gone", number=number, **GONE))
    assert started(scene.settle()) == []
    assert scene.status.state == "Failed"
    assert "giving up after 3 such failures in 3 attempts" in scene.condition("Failed").message


def test_other_causes_have_budgets_of_their_own() -> None:
    scene = Scene(failurePolicy={"backoffSeconds": 0, "retries": {"outOfMemory": 1, "interrupted": 1}})
    for number, cause in enumerate(["OutOfMemory", "Network"], start=1):
        assert started(scene.settle()) == [number]
        scene.sees(failing(cause, number=number, **GONE))
    assert started(scene.settle()) == [3]


def test_a_raised_retry_starts_a_failed_job_again_with_fresh_budgets() -> None:
    scene = ends(Scene(), failing("UserError"))
    scene.sees(broken(1, **GONE))
    scene.change(retry=1)
    assert started(scene.settle()) == [2]
    assert scene.status.failures == {}
    assert scene.status.observed_retry == 1
    assert scene.status.completion_time is None
    assert scene.says("Failed") == ("False", "Retried")
    assert scene.says("Finished") == ("False", "Retried")
    assert scene.status.state == "Starting"


def test_a_lowered_retry_starts_nothing_and_may_be_raised_again() -> None:
    scene = ends(Scene(retry=2), failing("UserError")).sees(broken(1, **GONE))
    scene.settle()
    assert started(scene.change(retry=1).settle()) == []
    assert scene.status.state == "Failed"
    assert started(scene.change(retry=2).settle()) == [2]


def test_pauses_begin_anew_once_retry_was_raised() -> None:
    scene = Scene(failurePolicy__retries__interrupted=1)
    over: list[SeenAttempt] = []
    for number, pause in ((1, 10), (2, None), (3, 10)):
        scene.settle()
        scene.sees(*over, running(number)).settle()
        over.append(failing("Network", number=number, **GONE))
        scene.sees(*over).settle()
        at = scene.status.next_attempt_time
        assert (at and (at - scene.now).total_seconds()) == pause
        scene.after(10).change(retry=1 if number == 2 else scene.status.observed_retry)


def test_a_raised_retry_gives_an_attempt_that_runs_fresh_budgets_and_leaves_it_alone() -> None:
    scene = trains(Scene(**FAST)).sees(failing("Network", **GONE))
    assert started(scene.settle()) == [2]
    scene.sees(failing("Network", **GONE), running(2)).settle()
    assert scene.change(retry=1).settle() == []
    assert (scene.status.failures, scene.status.observed_retry, scene.status.state) == ({}, 1, "Running")


def test_retry_that_was_set_before_the_failure_is_spent() -> None:
    scene = ends(Scene(retry=2), failing("UserError"))
    assert started(scene.sees().settle()) == []
    assert scene.status.state == "Failed"


def test_a_ray_cluster_that_outlives_its_ray_job_goes_before_the_next_attempt() -> None:
    scene = trains(Scene(**FAST)).sees(running(deleting=True, ray_cluster=None, orphan="cluster-1"))
    assert clusters_deleted(scene.settle()) == ["cluster-1"]
    assert scene.status.attempt_count == 1
    assert started(scene.sees().settle()) == [2]


def test_every_cause_is_handled() -> None:
    assert set(HANDLING) == set(Cause)


@pytest.mark.parametrize(
    ("head", "cause", "says"),
    [(HEAD, "Unknown", "KubeRay cannot submit job-1"), (None, "HeadLost", "the Ray head pod is gone")],
)
def test_a_run_that_kuberay_cannot_submit_does_not_hold_its_machines_without_end(
    head: SeenPod | None, cause: str, says: str
) -> None:
    scene = Scene()
    scene.settle()
    scene.after(3_600).sees(running(job_status="", head=head)).settle()
    assert scene.says("Running") == ("True", "Submitted")
    assert scene.again == timedelta(minutes=10)
    assert scene.after(599).settle() == []
    scene.after(1).settle()
    assert scene.last.cause == cause
    assert says in str(scene.last.message)


def test_a_run_that_kuberay_cannot_submit_is_looked_at_again_at_the_active_deadline() -> None:
    scene = Scene(activeDeadlineSeconds=100)
    scene.settle()
    scene.sees(running(job_status="")).settle()
    assert scene.says("Running") == ("True", "Submitted")
    assert scene.again is not None
    assert scene.again.total_seconds() == 100


def test_a_run_that_was_submitted_is_not_taken_for_lost_when_kuberay_does_not_know_its_state() -> None:
    scene = trains(Scene())
    assert scene.after(3_600).sees(running(job_status="")).settle() == []
    assert scene.says("Running") == ("True", "Training")


def test_a_head_that_answers_is_at_work_also_where_kuberay_does_not_know_the_state_of_its_run() -> None:
    scene = Scene()
    scene.settle()
    scene.sees(running(job_status="", progress=progress())).settle()
    assert scene.says("Running") == ("True", "Training")


@pytest.mark.parametrize(
    "seen",
    [
        failing("Network", ray_cluster=None, head=None, workers=(replace(WORKER, deleting=True),)),
        running(head=replace(HEAD, deleting=True)),
    ],
)
def test_a_pod_that_has_to_leave_is_looked_at_again(seen: SeenAttempt) -> None:
    scene = ends(Scene(**FAST), seen)
    assert scene.again is not None
    assert scene.again.total_seconds() == 60
