"""A job goes from attempt to attempt until it has an artifact or its budget is spent."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pretune_api.names import Cause, ExitCode
from pretune_api.status import Status
from pretune_operator.decision import StartAttempt
from support.scene import (
    ARTIFACT,
    BEGIN,
    HEAD,
    WORKER,
    Scene,
    attempt,
    broken,
    clusters_deleted,
    complete,
    deleted,
    ending,
    failing,
    progress,
    running,
    started,
)

FAST = {"failurePolicy__backoffSeconds": 0}


def trains(scene: Scene) -> Scene:
    """The first attempt is made, and runs."""
    scene.settle()
    scene.sees(running()).settle()
    return scene


def ends(scene: Scene, seen: object) -> Scene:
    """The first attempt runs, and then this is seen of it."""
    trains(scene).sees(seen).settle()  # type: ignore[arg-type]
    return scene


def test_a_new_job_starts_at_once_and_says_so() -> None:
    scene = Scene()
    [action] = scene.settle()
    assert isinstance(action, StartAttempt)
    assert action.number == 1
    assert (action.config.ranks, action.config.device, action.config.job.namespace) == (1, "cuda", "team")
    assert scene.status.state == "Starting"
    assert scene.status.stage == "causalLM"
    assert scene.status.start_time == BEGIN
    assert scene.says("Accepted") == ("True", "Valid")
    assert scene.says("QuotaReserved") == ("True", "NoQueue")
    assert scene.told() == ["AttemptStarted"]


def test_workers_without_gpus_are_ranks_on_cpus() -> None:
    scene = Scene(compute={"workers": 3, "gpusPerWorker": 0})
    [action] = scene.settle()
    assert isinstance(action, StartAttempt)
    assert (action.config.ranks, action.config.device) == (3, "cpu")


def test_an_attempt_that_status_does_not_know_is_adopted_and_not_made_again() -> None:
    scene = Scene().sees(running(1))
    assert scene.settle() == []
    assert scene.status.attempt_count == 1
    assert scene.last.ray_job == "job-1"
    assert scene.status.state == "Running"
    assert scene.told() == ["AttemptStarted", "Training"]


def test_a_ray_job_that_our_cache_does_not_show_yet_is_waited_for() -> None:
    scene = Scene()
    scene.settle()
    assert scene.after(30).settle() == []
    assert scene.again is not None
    assert scene.last.completion_time is None


def test_a_ray_job_that_somebody_else_deleted_is_a_failure_that_is_tried_again() -> None:
    scene = trains(Scene(**FAST)).sees()
    assert started(scene.settle()) == [2]
    assert scene.status.failures == {"Unknown": 1}
    assert scene.status.attempts[0].message is not None
    assert "not the operator" in scene.status.attempts[0].message


@pytest.mark.parametrize(
    ("seen", "state", "why"),
    [
        (attempt(suspended=True, deployment_status="Suspended"), "Queued", "Queued"),
        (attempt(), "Starting", "Starting"),
        (running(head=None, workers=()), "Running", "Submitted"),
        (running(), "Running", "Training"),
    ],
)
def test_the_state_follows_the_ray_job(seen: object, state: str, why: str) -> None:
    scene = Scene()
    scene.settle()
    scene.sees(seen).settle()  # type: ignore[arg-type]
    assert (scene.status.state, scene.condition("Running").reason) == (state, why)


def test_progress_metrics_and_runs_are_told_while_it_trains() -> None:
    scene = trains(Scene())
    scene.sees(running(progress=progress(run=2, metrics={"loss": 3.0}, from_step=0))).settle()
    assert scene.status.progress is not None
    assert (scene.status.progress.step, scene.status.progress.percent) == (5, 50)
    assert scene.status.metrics == {"loss": 3.0}
    assert (scene.last.runs, scene.last.from_step, scene.last.ray_cluster) == (2, 0, "cluster-1")


def test_runs_are_counted_for_each_attempt() -> None:
    scene = trains(Scene(**FAST)).sees(running(progress=progress(run=2)))
    scene.settle()
    scene.sees(failing("Network", workers=(), head=None)).settle()
    scene.sees(broken(1, head=None, workers=()), running(2, progress=progress(run=4, from_step=5))).settle()
    assert [record.runs for record in scene.status.attempts] == [2, 2]
    assert scene.last.from_step == 5


def test_success_is_published_before_the_ray_cluster_goes_and_the_ray_job_stays() -> None:
    scene = trains(Scene()).sees(complete())
    first = scene.decide()
    assert first.actions == ()
    assert first.status.artifact == ARTIFACT
    assert clusters_deleted(scene.settle()) == ["cluster-1"]
    assert scene.status.state == "Succeeded"
    assert scene.status.metrics == {"loss": 2.5}
    assert scene.status.completion_time == scene.now
    assert scene.says("Finished") == ("True", "Succeeded")
    assert scene.says("Running") == ("False", "Succeeded")
    assert scene.last.cause is None


def test_an_artifact_is_published_even_if_kuberay_does_not_notice_the_end() -> None:
    said = progress(ending=ending(ExitCode.OK, artifact=ARTIFACT))
    scene = trains(Scene()).sees(running(progress=said))
    assert scene.settle() == []
    assert scene.status.state == "Succeeded"
    assert deleted(scene.after(61).settle()) == ["job-1"]


def test_a_job_that_succeeded_never_starts_again() -> None:
    scene = ends(Scene(), complete())
    scene.change(retry=3, suspend=True, compute={"workers": 4})
    assert started(scene.sees().after(100).settle()) == []
    assert scene.status.state == "Succeeded"
    assert scene.status.observed_generation == scene.generation


def test_a_success_whose_last_word_cannot_be_read_is_asked_again_and_then_tried_again() -> None:
    scene = trains(Scene(**FAST)).sees(complete(progress=progress()))
    assert scene.settle() == []
    assert scene.says("Running") == ("Unknown", "AwaitingResult")
    assert scene.status.state == "Running"
    assert scene.again is not None
    assert scene.again.total_seconds() < 10
    scene.after(61).settle()
    assert scene.status.failures == {"Unknown": 1}
    assert "another attempt finds it" in str(scene.last.message)


def test_a_failed_attempt_keeps_the_last_lines_of_its_log_and_the_next_one_its_number() -> None:
    said = ending(ExitCode.FAILED, "it broke", "Network", log="NCCL WARN\nit broke")
    scene = trains(Scene(**FAST))
    actions = scene.sees(broken(progress=progress(ending=said))).settle()
    assert scene.last.log == "NCCL WARN\nit broke"
    actions += scene.sees(broken(1, ray_cluster=None, head=None, workers=())).after(600).settle()
    assert [each.config.attempt for each in actions if isinstance(each, StartAttempt)] == [2]
    assert [record.log for record in scene.status.attempts] == ["NCCL WARN\nit broke", None]


@pytest.mark.parametrize("cause", ["UserError", "StorageDenied", "NumericalError"])
def test_what_no_repetition_mends_is_not_tried_again(cause: str) -> None:
    scene = ends(Scene(), failing(cause, "spec.training: loss is nan"))
    scene.sees(broken(1, ray_cluster=None, head=None, workers=()))
    assert started(scene.after(10_000).settle()) == []
    assert scene.status.state == "Failed"
    assert scene.condition("Failed").reason == cause
    assert scene.condition("Failed").message.startswith("spec.training: loss is nan. To go on: ")
    assert scene.last.cause == cause
    assert scene.told()[-1] == cause


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (broken(head=replace(HEAD, phase="Failed", terminated_reason="OOMKilled")), "OutOfMemory"),
        (broken(head=None, workers=(replace(WORKER, terminated_reason="OOMKilled"),)), "OutOfMemory"),
        (broken(head=None, workers=(replace(WORKER, disruption="PreemptionByScheduler"),)), "Preempted"),
        (broken(head=None, workers=(replace(WORKER, node_lost=True),)), "NodeLost"),
        (broken(head=None), "Unknown"),
        (failing("Unknown", head=HEAD, workers=(replace(WORKER, node_lost=True),)), "NodeLost"),
        (
            failing("StorageUnavailable", workers=(replace(WORKER, terminated_reason="OOMKilled"),)),
            "StorageUnavailable",
        ),
        (failing("SomethingNew"), "Unknown"),
        (broken(progress=progress(ending=ending(ExitCode.STOPPED, "stopped"))), "Preempted"),
        (broken(reason="SubmissionFailed"), "Network"),
        (broken(reason="DeadlineExceeded"), "DeadlineExceeded"),
        (attempt(deployment_status="ValidationFailed", reason="ValidationFailed", message="no"), "UserError"),
        (running(head=None), "HeadLost"),
        (running(head=replace(HEAD, phase="Failed")), "HeadLost"),
        (running(head=replace(HEAD, node_lost=True)), "NodeLost"),
        (running(head=replace(HEAD, phase="Failed", disruption="EvictionByEvictionAPI")), "Preempted"),
        (running(head=replace(HEAD, phase="Failed", terminated_reason="OOMKilled")), "OutOfMemory"),
    ],
)
def test_every_end_has_a_cause(seen: object, cause: str) -> None:
    scene = ends(Scene(), seen)
    assert scene.last.cause == cause
    assert scene.status.failures == {cause: 1}


def test_a_head_that_leaves_is_not_lost_before_it_has_left() -> None:
    scene = ends(Scene(), running(head=replace(HEAD, deleting=True)))
    assert scene.last.completion_time is None


def test_a_lost_worker_is_for_ray_train_to_replace() -> None:
    pending = replace(WORKER, phase="Pending", node=None, unschedulable="0/3 nodes are available")
    scene = ends(Scene(), running(workers=(pending,)))
    assert scene.last.completion_time is None
    assert scene.status.state == "Running"
    assert scene.says("Running") == ("True", "Unschedulable")


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
        scene.sees(failing(cause, "gone", number=number, head=None, workers=(), ray_cluster=None))
    assert started(scene.settle()) == []
    assert scene.status.state == "Failed"
    assert "given up after 3 such failures in 3 attempts" in scene.condition("Failed").message


def test_other_causes_have_budgets_of_their_own() -> None:
    scene = Scene(failurePolicy={"backoffSeconds": 0, "retries": {"outOfMemory": 1, "interrupted": 1}})
    for number, cause in enumerate(["OutOfMemory", "Network"], start=1):
        assert started(scene.settle()) == [number]
        scene.sees(failing(cause, number=number, head=None, workers=(), ray_cluster=None))
    assert started(scene.settle()) == [3]


def test_a_raised_retry_starts_a_failed_job_again_with_fresh_budgets() -> None:
    scene = ends(Scene(), failing("UserError"))
    scene.sees(broken(1, ray_cluster=None, head=None, workers=()))
    scene.change(retry=1)
    assert started(scene.settle()) == [2]
    assert scene.status.failures == {}
    assert scene.status.observed_retry == 1
    assert scene.status.completion_time is None
    assert scene.says("Failed") == ("False", "Retried")
    assert scene.says("Finished") == ("False", "Retried")
    assert scene.status.state == "Starting"


def test_retry_that_was_set_before_the_failure_is_spent() -> None:
    scene = ends(Scene(retry=2), failing("UserError"))
    assert started(scene.sees().settle()) == []
    assert scene.status.state == "Failed"


def test_changes_of_compute_take_effect_with_the_next_attempt() -> None:
    scene = trains(Scene(**FAST)).change(compute={"workers": 4})
    assert scene.settle() == []
    scene.sees(failing("Network", head=None, workers=(), ray_cluster=None))
    [action] = scene.settle()
    assert isinstance(action, StartAttempt)
    assert action.config.ranks == 4
    assert scene.last.gpus == 4


def test_only_the_last_ten_attempts_are_kept() -> None:
    scene = Scene(failurePolicy={"backoffSeconds": 0})
    over = []
    for number in range(1, 13):
        scene.settle()
        over.append(failing("Network", number=number, head=None, workers=(), ray_cluster=None))
        scene.sees(*over)
    assert deleted(scene.settle()) == ["job-1", "job-2", "job-3"]
    assert [record.number for record in scene.status.attempts] == list(range(4, 14))


def test_gpu_seconds_count_what_all_attempts_held_and_not_what_they_waited() -> None:
    scene = Scene(compute={"workers": 2, "gpusPerWorker": 4}, **FAST)
    scene.settle()
    scene.after(500).sees(attempt(suspended=True, deployment_status="Suspended", gpus=8)).settle()
    scene.after(500).sees(running(gpus=8)).settle()
    scene.after(100).sees(attempt(suspended=True, deployment_status="Suspended", gpus=8)).settle()
    scene.after(900).sees(running(gpus=8)).settle()
    scene.after(50).sees(failing("Network", head=None, workers=(), gpus=8)).settle()
    assert (scene.status.active_seconds, scene.status.gpu_seconds) == (150, 1200)
    assert scene.status.attempts[0].active_seconds == 150


@pytest.mark.parametrize("left", [{}, {"head": None, "workers": (), "ray_cluster": None}])
def test_time_after_the_end_of_an_attempt_is_not_its_own_however_late_it_is_seen(left: dict[str, Any]) -> None:
    scene = trains(Scene(activeDeadlineSeconds=7200))
    scene.after(60).settle()
    said = progress(ending=ending(ExitCode.FAILED, "it broke", "Network"))
    scene.after(18_000).sees(broken(end=BEGIN + timedelta(seconds=100), progress=said, **left)).settle()
    assert (scene.status.gpu_seconds, scene.status.active_seconds) == (100, 100)
    assert scene.status.state == "Waiting"


def test_a_ray_job_that_kuberay_finds_invalid_gives_its_quota_back() -> None:
    scene = Scene(labels={"kueue.x-k8s.io/queue-name": "team"})
    scene.settle()
    scene.sees(attempt(suspended=True)).settle()
    invalid = {"deployment_status": "ValidationFailed", "reason": "ValidationFailed", "message": "no"}
    assert deleted(scene.sees(attempt(suspended=True, ray_cluster=None, **invalid)).settle()) == ["job-1"]
    assert scene.says("Failed") == ("True", "UserError")


def test_a_ray_cluster_that_outlives_its_ray_job_goes_before_the_next_attempt() -> None:
    scene = trains(Scene(**FAST)).sees(running(deleting=True, ray_cluster=None, orphan="cluster-1"))
    assert clusters_deleted(scene.settle()) == ["cluster-1"]
    assert scene.status.attempt_count == 1
    assert started(scene.sees().settle()) == [2]


def test_gpu_seconds_grow_while_it_trains() -> None:
    scene = trains(Scene())
    scene.after(61).settle()
    assert scene.status.gpu_seconds == 61


def test_conditions_keep_the_time_of_their_last_change() -> None:
    scene = trains(Scene())
    scene.after(300).sees(
        running(workers=(replace(WORKER, phase="Pending", node=None, unschedulable="full"),))
    ).settle()
    assert scene.says("Running") == ("True", "Unschedulable")
    assert scene.condition("Running").last_transition_time == BEGIN


def test_a_long_message_is_cut_short() -> None:
    scene = ends(Scene(), failing("UserError", "x" * 10_000))
    Status.model_validate_json(scene.status.model_dump_json())
    assert len(scene.condition("Failed").message) < 4096


def test_every_cause_is_handled() -> None:
    from pretune_operator.causes import HANDLING

    assert set(HANDLING) == set(Cause)
