"""A job that cannot train yet, or shall not, says what it waits for, and goes on once it may."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pretune_api.names import ExitCode
from pretune_operator.decision import StartAttempt
from pretune_operator.observed import Cluster, ParentState, SeenParent
from pretune_operator.start import forbidden
from support.scene import (
    ARTIFACT,
    GONE,
    WORKER,
    Scene,
    attempt,
    complete,
    ending,
    failing,
    parent,
    progress,
    running,
    started,
)
from support.specs import FINETUNE

QUEUE = {"kueue.x-k8s.io/queue-name": "team"}


# --- parents


@pytest.mark.parametrize(
    ("parents", "why", "says"),
    [
        ({}, "ParentMissing", "PretrainJob/general does not exist in namespace team"),
        ({"PretrainJob/general": parent(ParentState.MISSING)}, "ParentMissing", "create it"),
        ({"PretrainJob/general": parent(ParentState.RUNNING)}, "ParentRunning", "not finished"),
        ({"PretrainJob/general": parent(ParentState.FAILED)}, "ParentFailed", "raise its spec.retry"),
        ({"PretrainJob/general": SeenParent(ParentState.SUCCEEDED)}, "ParentFailed", "artifact is not valid"),
    ],
)
def test_a_parent_without_an_artifact_is_waited_for(parents: dict[str, object], why: str, says: str) -> None:
    scene = Scene(FINETUNE).sees(parents=parents)
    assert scene.settle() == []
    assert scene.status.state == "Waiting"
    assert scene.says("InputsResolved") == ("False", why)
    assert says in scene.condition("InputsResolved").message
    scene.sees(parents={"PretrainJob/general": parent(ParentState.SUCCEEDED)})
    assert started(scene.settle()) == [1]


@pytest.mark.parametrize("ancestors", [("FinetuneJob/classify",), ("PretrainJob/other", "FinetuneJob/classify")])
def test_a_cycle_is_its_users_error(ancestors: tuple[str, ...]) -> None:
    scene = Scene(FINETUNE).sees(parents={"PretrainJob/general": parent(ParentState.RUNNING, *ancestors)})
    assert scene.settle() == []
    assert scene.says("InputsResolved") == ("False", "ParentCycle")
    assert scene.says("Failed") == ("True", "UserError")


def test_a_cycle_is_told_also_where_another_parent_is_only_missing() -> None:
    scene = Scene(FINETUNE, tokenizer={"from": {"pretrainJob": "words"}})
    parents = {"PretrainJob/words": parent(ParentState.RUNNING, "FinetuneJob/classify")}
    assert scene.sees(parents=parents).settle() == []
    assert scene.says("Failed") == ("True", "UserError")
    assert "PretrainJob/words depends on FinetuneJob/classify" in scene.condition("Failed").message


def test_an_input_is_resolved_once() -> None:
    scene = Scene(FINETUNE, failurePolicy__backoffSeconds=0)
    scene.sees(parents={"PretrainJob/general": parent(ParentState.SUCCEEDED)})
    [first] = scene.settle()
    scene.sees(running(), parents={"PretrainJob/general": parent(ParentState.MISSING)}).settle()
    scene.sees(failing("Network", **GONE))
    [second] = scene.settle()
    assert isinstance(first, StartAttempt)
    assert isinstance(second, StartAttempt)
    assert first.config.model == second.config.model
    assert first.config.model.parent is not None
    assert first.config.model.parent.folder is not None
    assert first.config.model.parent.folder.job == "PretrainJob/general"
    assert [(known.job, known.uri) for known in scene.status.inputs] == [("PretrainJob/general", ARTIFACT.uri)]


def test_nothing_is_made_from_an_input_that_status_does_not_know_yet() -> None:
    """An operator that dies in between would resolve it anew, maybe to the model of another job of that name."""
    scene = Scene(FINETUNE).sees(parents={"PretrainJob/general": parent(ParentState.SUCCEEDED)})
    first = scene.decide()
    assert first.actions == ()
    assert [known.uri for known in first.status.inputs] == [ARTIFACT.uri]
    assert first.again == timedelta(0)


def test_each_of_two_parents_is_kept_as_soon_as_it_is_there() -> None:
    scene = Scene(FINETUNE, tokenizer={"from": {"pretrainJob": "words"}})
    scene.sees(parents={"PretrainJob/words": parent(ParentState.SUCCEEDED)})
    assert scene.settle() == []
    assert [known.job for known in scene.status.inputs] == ["PretrainJob/words"]
    assert started(scene.sees(parents={"PretrainJob/general": parent(ParentState.SUCCEEDED)}).settle()) == [1]


# --- what the cluster lacks


def test_without_kuberay_nothing_is_made_and_it_is_looked_at_again() -> None:
    scene = Scene().sees(cluster=Cluster(kuberay_problem="KubeRay is not installed; install 1.5.1 or later."))
    assert scene.settle() == []
    assert scene.says("Running") == ("False", "KubeRayUnavailable")
    assert scene.status.state == "Pending"
    assert scene.again is not None
    assert started(scene.sees(cluster=Cluster()).settle()) == [1]


def test_a_ray_job_that_kuberay_does_not_take_up_names_kuberay() -> None:
    scene = Scene(labels=QUEUE, failurePolicy__startDeadlineSeconds=600)
    scene.settle()
    untouched = attempt(deployment_status="", ray_cluster=None)
    scene.sees(replace(untouched, suspended=True)).after(1_000).settle()
    scene.sees(untouched).settle()
    assert scene.says("Running") == ("False", "Starting")
    assert scene.again is not None
    scene.after(scene.again.total_seconds()).settle()
    assert scene.says("Running") == ("False", "KubeRayUnavailable")
    assert scene.told()[-1] == "KubeRayUnavailable"
    assert "KubeRay has not picked up job-1" in scene.condition("Running").message


def test_a_kuberay_that_was_away_for_a_night_fails_no_job_and_each_has_its_whole_time_to_start() -> None:
    scene = Scene(failurePolicy__startDeadlineSeconds=600)
    scene.settle()
    scene.sees(attempt(deployment_status="", ray_cluster=None)).after(50_000).settle()
    assert scene.says("Running") == ("False", "KubeRayUnavailable")
    scene.sees(attempt(taken_up=scene.now)).settle()
    scene.after(600).settle()
    assert scene.last.completion_time is None
    scene.after(31).settle()
    assert scene.last.cause == "Unknown"


def test_a_queue_without_kueue_is_told_and_nothing_is_made_past_it() -> None:
    scene = Scene(labels=QUEUE).sees(cluster=Cluster(kueue=False))
    assert scene.settle() == []
    assert scene.says("QuotaReserved") == ("False", "KueueMissing")
    assert scene.status.state == "Pending"
    assert scene.again is not None
    assert started(scene.sees(cluster=Cluster()).settle()) == [1]


def test_without_a_queue_kueue_is_not_missed() -> None:
    assert started(Scene().sees(cluster=Cluster(kueue=False)).settle()) == [1]


def test_what_the_api_server_refuses_is_told_by_status_and_is_asked_for_again() -> None:
    scene = Scene(labels=QUEUE)
    decision = forbidden(scene.status, scene.decide(), scene.generation, "exceeded quota: none", scene.now)
    assert (decision.actions, decision.again) == ((), timedelta(seconds=60))
    assert [(event.type, event.reason) for event in decision.events] == [("Warning", "Refused")]
    scene.status = decision.status
    assert (scene.status.state, scene.status.attempts, scene.status.attempt_count) == ("Waiting", [], 0)
    assert scene.says("Running") == ("False", "Refused")
    assert "exceeded quota: none" in scene.condition("Running").message
    assert (scene.status.start_time, scene.says("QuotaReserved")) == (None, ("False", "NoAttempt"))
    assert started(scene.after(60).settle()) == [1]
    assert scene.status.state == "Queued"


# --- Kueue


def test_kueue_holds_an_attempt_back_and_lets_it_go() -> None:
    scene = Scene(labels=QUEUE)
    scene.settle()
    states = [scene.status.state]
    scene.sees(attempt(suspended=True)).after(1_000_000).settle()
    assert scene.says("QuotaReserved") == ("False", "Queued")
    scene.sees(attempt()).settle()
    assert scene.says("QuotaReserved") == ("True", "Admitted")
    assert [*states, scene.status.state] == ["Queued", "Starting"]


def test_an_evicted_attempt_stays_the_same_attempt() -> None:
    scene = Scene(labels=QUEUE)
    scene.settle()
    scene.sees(running()).settle()
    stopped = progress(ending=ending(ExitCode.STOPPED, "asked to stop"))
    for seen in (running(suspended=True, progress=stopped), attempt(suspended=True, deployment_status="Suspended")):
        assert scene.after(10).sees(seen).settle() == []
    assert scene.status.state == "Queued"
    assert scene.says("QuotaReserved") == ("False", "Evicted")
    assert scene.sees(running()).settle() == []
    assert (scene.status.attempt_count, scene.status.state) == (1, "Running")


def test_quota_is_told_of_an_attempt_that_status_does_not_know() -> None:
    scene = Scene(labels=QUEUE).sees(running())
    scene.settle()
    assert scene.says("QuotaReserved") == ("True", "Admitted")


def test_an_attempt_that_waited_for_quota_is_admitted_also_once_its_job_names_no_queue() -> None:
    queued = attempt(suspended=True, deployment_status="Suspended")
    scene = Scene(labels=QUEUE).sees(queued)
    scene.settle()
    scene.labels = {}
    for why in ("Queued", "Evicted"):
        scene.sees(queued).settle()
        assert scene.says("QuotaReserved") == ("False", why)
        scene.sees(running()).settle()
        assert scene.says("QuotaReserved") == ("True", "Admitted")
        scene.after(10)


def test_a_queued_attempt_that_is_deleted_is_not_admitted_as_it_goes() -> None:
    scene = Scene(labels=QUEUE)
    scene.settle()
    scene.sees(attempt(suspended=True)).settle()
    scene.change(suspend=True).settle()
    scene.sees(attempt(deleting=True, deployment_status="", workers=(WORKER,))).settle()
    assert scene.says("QuotaReserved") == ("False", "Queued")


# --- events


def test_each_turn_is_told_once() -> None:
    scene = Scene(FINETUNE, labels=QUEUE)
    scene.sees(parents={"PretrainJob/general": parent(ParentState.RUNNING)}).settle()
    scene.sees(parents={"PretrainJob/general": parent(ParentState.SUCCEEDED)}).settle()
    scene.sees(attempt(suspended=True)).settle()
    scene.sees(running()).settle()
    scene.sees(failing("Network", "connection reset", **GONE)).settle()
    scene.after(10).settle()
    scene.sees(running(2)).settle()
    scene.change(suspend=True).settle()
    scene.sees().settle()
    scene.change(suspend=False).settle()
    scene.sees(running(3)).settle()
    scene.sees(complete(3)).settle()
    assert scene.told() == [
        "ParentRunning",
        "Resolved",
        "AttemptStarted",
        "Queued",
        "Admitted",
        "Training",
        "AttemptFailed",
        "AttemptStarted",
        "Queued",
        "Admitted",
        "Training",
        "Draining",
        "Suspended",
        "AttemptStarted",
        "Queued",
        "Resumed",
        "Admitted",
        "Training",
        "Succeeded",
    ]
    failure = next(event for event in scene.events if event.reason == "AttemptFailed")
    assert failure.type == "Warning"
    assert failure.message.startswith("Attempt 1 failed with Network: connection reset. The next one starts at ")
