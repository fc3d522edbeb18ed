"""A job has one attempt at a time, whose course its status tells."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pretune_api.names import ExitCode
from pretune_api.status import Progress, Status
from pretune_operator.decision import StartAttempt
from pretune_operator.observed import SeenAttempt
from support.scene import (
    ARTIFACT,
    BEGIN,
    FAST,
    GONE,
    WORKER,
    Scene,
    attempt,
    broken,
    clusters_deleted,
    complete,
    deleted,
    ending,
    ends,
    failing,
    progress,
    running,
    started,
    trains,
)


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
    assert scene.again == timedelta(seconds=30)
    assert scene.last.completion_time is None
    scene.after(30).settle()
    assert scene.status.failures == {"Unknown": 1}, "it is not waited for without end"


@pytest.mark.parametrize(
    ("left", "says"),
    [
        ([], "no longer exists, and the operator did not delete it"),
        ([running(deleting=True, head=None, workers=())], "was deleted, but not by the operator"),
    ],
)
def test_a_ray_job_that_somebody_else_deleted_is_a_failure_that_is_tried_again(
    left: list[SeenAttempt], says: str
) -> None:
    scene = trains(Scene(**FAST)).sees(*left)
    assert started([*scene.settle(), *scene.sees().settle()]) == [2]
    assert scene.status.failures == {"Unknown": 1}
    assert says in str(scene.status.attempts[0].message)


@pytest.mark.parametrize(
    ("seen", "state", "why"),
    [
        (attempt(suspended=True, deployment_status="Suspended"), "Queued", "Queued"),
        (attempt(), "Starting", "Starting"),
        (running(head=None, workers=()), "Running", "Submitted"),
        (running(), "Running", "Training"),
    ],
)
def test_the_state_follows_the_ray_job(seen: SeenAttempt, state: str, why: str) -> None:
    scene = Scene()
    scene.settle()
    scene.sees(seen).settle()
    assert (scene.status.state, scene.condition("Running").reason) == (state, why)


def test_progress_metrics_and_runs_are_told_while_it_trains() -> None:
    scene = trains(Scene())
    scene.sees(running(progress=progress(run=2, metrics={"loss": 3.0}, from_step=0))).settle()
    assert scene.status.progress is not None
    assert (scene.status.progress.step, scene.status.progress.percent) == (5, 50)
    assert scene.status.metrics == {"loss": 3.0}
    assert (scene.last.runs, scene.last.from_step, scene.last.ray_cluster) == (2, 0, "cluster-1")


def test_what_a_new_run_does_not_know_yet_is_not_forgotten() -> None:
    scene = trains(Scene()).sees(running(progress=progress(metrics={"loss": 3.0})))
    scene.settle()
    for steps, step in ((Progress(step=0, total=0, percent=0), 5), (Progress(step=6, total=10, percent=60), 6)):
        scene.sees(running(progress=progress(run=2, steps=steps))).settle()
        assert scene.status.progress is not None
        assert (scene.status.progress.step, scene.status.progress.total) == (step, 10)
        assert (scene.status.progress.checkpoint_step, scene.status.metrics) == (5, {"loss": 3.0})


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


def test_an_ending_without_metrics_leaves_those_that_were_told_before() -> None:
    scene = trains(Scene()).sees(running(progress=progress(metrics={"loss": 3.0})))
    scene.settle()
    scene.sees(complete(progress=progress(ending=ending(ExitCode.OK, artifact=ARTIFACT)))).settle()
    assert (scene.status.state, scene.status.metrics) == ("Succeeded", {"loss": 3.0})


def test_a_job_that_succeeded_never_starts_again() -> None:
    scene = ends(Scene(), complete())
    for change in ({"retry": 3}, {"suspend": True, "compute": {"workers": 4}}, {"suspend": False}):
        assert started(scene.change(**change).sees().after(100).settle()) == []
        assert scene.status.state == "Succeeded"
        assert scene.status.observed_generation == scene.generation


def test_a_success_whose_last_word_cannot_be_read_is_asked_again_and_then_tried_again() -> None:
    scene = trains(Scene(**FAST)).after(3_600).sees(complete(progress=progress()))
    assert scene.settle() == []
    assert scene.says("Running") == ("Unknown", "AwaitingResult")
    assert scene.status.state == "Running"
    assert scene.again is not None
    assert scene.again.total_seconds() < 10
    scene.after(61).settle()
    assert scene.status.failures == {"Unknown": 1}
    assert "another attempt will find it" in str(scene.last.message)


def test_an_artifact_that_is_told_after_its_head_was_out_of_sight_is_published() -> None:
    scene = ends(Scene(), complete(progress=None, head=None))
    assert scene.says("Running") == ("Unknown", "AwaitingResult")
    scene.sees(complete()).settle()
    assert scene.status.state == "Succeeded"


def test_changes_of_compute_take_effect_with_the_next_attempt() -> None:
    scene = trains(Scene(**FAST)).change(compute={"workers": 4})
    assert scene.settle() == []
    scene.sees(failing("Network", **GONE))
    [action] = scene.settle()
    assert isinstance(action, StartAttempt)
    assert action.config.ranks == 4
    assert scene.last.gpus == 4
    assert scene.status.attempts[0].ray_cluster == "cluster-1", "also once it is gone"


def test_only_the_last_ten_attempts_are_kept() -> None:
    scene = Scene(failurePolicy={"backoffSeconds": 0})
    over = []
    for number in range(1, 13):
        scene.settle()
        over.append(failing("Network", number=number, **GONE))
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


@pytest.mark.parametrize("left", [{}, GONE])
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
    invalid: dict[str, Any] = {"deployment_status": "ValidationFailed", "reason": "ValidationFailed", "message": "no"}
    assert deleted(scene.sees(attempt(suspended=True, ray_cluster=None, **invalid)).settle()) == ["job-1"]
    assert scene.says("Failed") == ("True", "UserError")


def test_gpu_seconds_grow_while_it_trains_and_are_written_once_a_minute() -> None:
    scene = trains(Scene())
    assert scene.after(59).decide().status == scene.status
    assert scene.decide().again == timedelta(seconds=1), "no event tells of an attempt that makes no progress"
    scene.after(2).settle()
    assert scene.status.gpu_seconds == 61


def test_gpu_seconds_count_also_while_pods_outlive_their_ray_job() -> None:
    scene = Scene(compute={"gpusPerWorker": 8})
    scene.settle()
    scene.sees(running(gpus=8)).settle()
    scene.after(50).sees(running(gpus=0, deleting=True, deployment_status="")).settle()
    scene.after(10).sees().settle()
    assert scene.status.gpu_seconds == 480


def test_conditions_keep_the_time_of_their_last_change() -> None:
    scene = trains(Scene())
    scene.after(300).sees(
        running(workers=(replace(WORKER, phase="Pending", node=None, unschedulable="full"),))
    ).settle()
    assert scene.says("Running") == ("True", "Unschedulable")
    assert scene.condition("Running").last_transition_time == BEGIN


def test_conditions_name_the_generation_of_the_spec_that_they_are_about() -> None:
    scene = trains(Scene()).change(compute={"workers": 4})
    scene.settle()
    assert scene.condition("Accepted").observed_generation == scene.generation == 2


def test_what_a_newer_operator_has_stated_beside_goes() -> None:
    scene = trains(Scene())
    novel = scene.condition("Running").model_copy(update={"type": "Novel"})
    before = scene.status
    scene.status = before.model_copy(update={"conditions": [*before.conditions, novel]})
    assert scene.settle() == []
    assert scene.status == before


def test_a_long_message_is_cut_short() -> None:
    scene = ends(Scene(), failing("UserError", "x" * 10_000))
    Status.model_validate_json(scene.status.model_dump_json())
    assert len(scene.condition("Failed").message) < 4096
