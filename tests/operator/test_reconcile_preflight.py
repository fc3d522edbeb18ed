"""A job is tried on CPUs before it takes machines; only a mistake in it keeps it from running."""

from dataclasses import replace
from typing import Any

import pytest

from pretune_operator.decision import Action, DeletePreflight, StartPreflight
from pretune_operator.naming import preflight_name
from pretune_operator.observed import ParentState, SeenPod, SeenPreflight
from pretune_operator.policies.preflight import done_without
from support.preflights import MISTAKE, POD, finding, words
from support.scene import BEGIN, SETTINGS, Scene, broken, failing, parent, progress, running, started
from support.specs import FINETUNE
from support.views import view

NAME = preflight_name(view(uid="0123-4567"), 1)
"""Of the Job of the first preflight in a scene."""
DEADLINE = SETTINGS.preflight.deadline_seconds


def going(number: int = 1, **fields: Any) -> SeenPreflight:
    """A preflight that runs."""
    return SeenPreflight(number, NAME, **{"pod": POD, **fields})


def ended(message: str, exit_code: int = 0, number: int = 1, **pod: Any) -> SeenPreflight:
    """A preflight whose pod has ended."""
    phase = "Failed" if exit_code else "Succeeded"
    return going(number, pod=replace(POD, phase=phase, exit_code=exit_code, message=message, **pod))


def begun(**spec: Any) -> Scene:
    """A job whose preflight runs."""
    scene = Scene(preflight=True, **spec)
    scene.settle()
    scene.sees(preflights={1: going()}).settle()
    return scene


def made(actions: list[Action]) -> list[int]:
    return [action.number for action in actions if isinstance(action, StartPreflight)]


def deleted(actions: list[Action]) -> list[str]:
    return [action.job for action in actions if isinstance(action, DeletePreflight)]


def over(scene: Scene, *seen: SeenPreflight) -> list[Action]:
    """What follows once no more comes of the first preflight."""
    return scene.sees(preflights={one.number: one for one in seen}).settle()


def test_a_preflight_goes_before_the_first_attempt() -> None:
    scene = Scene(preflight=True)
    actions = scene.settle()
    assert (made(actions), started(actions)) == ([1], [])
    assert scene.status.state == "Waiting"
    assert scene.says("PreflightPassed") == ("Unknown", "Checking")
    assert scene.sees(preflights={1: going()}).settle() == []


def test_a_job_that_passes_takes_its_machines_and_its_findings_stay() -> None:
    scene = begun()
    actions = over(scene, ended(words(finding(True), finding(None, "not yet", check="parent"))))
    assert (started(actions), deleted(actions)) == ([1], [NAME])
    assert scene.says("PreflightPassed") == ("True", "Passed")
    assert [(found.check, found.result) for found in scene.status.preflight] == [
        ("source", "Ok"),
        ("parent", "NotKnown"),
    ]
    over(scene)
    assert scene.sees(running()).settle() == []
    assert scene.status.preflight[0].sentence == "said"
    assert scene.told()[:2] == ["Passed", "AttemptStarted"]


@pytest.mark.parametrize("cause", ["UserError", "StorageDenied"])
def test_a_mistake_fails_the_job_before_anything_is_taken(cause: str) -> None:
    scene = begun()
    actions = over(scene, ended(words(finding(True), finding(False, "there is nothing", cause)), exit_code=2))
    assert (started(actions), deleted(actions)) == ([], [NAME])
    assert (scene.status.state, scene.status.attempt_count) == ("Failed", 0)
    assert scene.says("Failed") == ("True", cause)
    assert scene.condition("Failed").message.startswith("spec.data.train[0].uri: there is nothing. To continue: ")
    assert scene.says("PreflightPassed") == ("False", cause)
    assert scene.status.preflight[1].sentence == "there is nothing"
    assert scene.told() == [cause]


@pytest.mark.parametrize("cause", ["StorageUnavailable", "Unknown"])
def test_what_may_not_last_does_not_keep_a_job_from_running(cause: str) -> None:
    scene = begun()
    assert started(over(scene, ended(words(finding(False, "it timed out", cause)), exit_code=1))) == [1]
    assert scene.says("PreflightPassed") == ("Unknown", "Inconclusive")
    assert "it timed out" in scene.condition("PreflightPassed").message
    assert scene.status.preflight[0].result == "Wrong"


@pytest.mark.parametrize(
    ("message", "exit_code", "reason", "says"),
    [
        (
            "Traceback:\nModuleNotFoundError: No module named 'mine'\n",
            1,
            "Error",
            "Error: ModuleNotFoundError: No module",
        ),
        ("usage: something else entirely", 2, "Error", "exit code 2"),
        ("", 137, "OOMKilled", "it failed with exit code 137: OOMKilled"),
        ('{"findings": [{"check": "source"}]}', 2, "Error", "exit code 2"),
        ("", 0, "Completed", "exit code 0"),
    ],
)
def test_a_preflight_that_breaks_does_not_keep_a_job_from_running(
    message: str, exit_code: int, reason: str, says: str
) -> None:
    scene = begun()
    assert started(over(scene, ended(message, exit_code, terminated_reason=reason))) == [1]
    [found] = scene.status.preflight
    assert (found.check, found.result, found.place) == ("preflight", "NotKnown", POD.name)
    assert says in found.sentence
    assert scene.says("PreflightPassed") == ("Unknown", "Inconclusive")


@pytest.mark.parametrize(
    ("pod", "says"),
    [
        (None, f"no pod was created within {DEADLINE} s"),
        (replace(POD, phase="Pending", unschedulable="0/3 nodes are available"), "0/3 nodes are available"),
        (replace(POD, phase="Pending", waiting_reason="ImagePullBackOff"), "ImagePullBackOff"),
        (replace(POD, phase="Pending", node="node-7"), f"{POD.name} was still starting on node node-7"),
        (POD, f"it did not finish within {DEADLINE} s"),
    ],
)
def test_one_that_does_not_end_in_its_time_is_not_waited_for(pod: SeenPod | None, says: str) -> None:
    scene = begun()
    assert over(scene, going(pod=pod)) == []
    assert scene.after(DEADLINE - 1).settle() == []
    assert scene.again is not None
    actions = scene.after(scene.again.total_seconds()).settle()
    assert (started(actions), deleted(actions)) == ([1], [NAME])
    assert says in scene.status.preflight[0].sentence


def test_what_keeps_its_pod_from_starting_is_told_while_it_does() -> None:
    scene = begun()
    over(scene, going(pod=replace(POD, phase="Pending", waiting_reason="ImagePullBackOff")))
    assert "ImagePullBackOff" in scene.condition("Running").message
    over(scene, going())
    assert "is checking storage, data and model" in scene.condition("Running").message
    over(scene, ended(words(finding(True))))
    assert scene.says("PreflightPassed") == ("True", "Passed")


def test_one_that_kueue_holds_back_is_told_and_done_without_in_the_end() -> None:
    scene = begun()
    over(scene, going(pod=None, suspended=True))
    assert "is suspended, as Kueue does with Jobs that it has not admitted" in scene.condition("Running").message
    assert started(scene.after(DEADLINE).settle()) == [1]
    assert f"did not let it start within {DEADLINE} s" in scene.status.preflight[0].sentence


def test_one_that_was_deleted_is_soon_done_without() -> None:
    scene = begun()
    assert over(scene) == []
    assert started(scene.after(60).settle()) == [1]
    assert "it no longer exists" in scene.status.preflight[0].sentence


def test_one_that_the_cluster_forbids_is_done_without_at_once_and_is_told() -> None:
    scene = Scene(preflight=True)
    decision = done_without(scene.decide(), scene.generation, "exceeded quota: none", scene.now)
    assert made([*decision.actions]) == [1]
    assert [(event.type, event.reason) for event in decision.events] == [("Warning", "Inconclusive")]
    scene.status = decision.status
    assert scene.says("PreflightPassed") == ("Unknown", "Inconclusive")
    [found] = scene.status.preflight
    assert (found.result, found.sentence) == ("NotKnown", "its Job was rejected: exceeded quota: none")
    actions = scene.settle()
    assert (started(actions), made(actions)) == ([1], [])


def test_one_whose_node_is_lost_is_done_without() -> None:
    scene = begun()
    lost = going(pod=None, end=BEGIN, problem="BackoffLimitExceeded: Job has reached the specified backoff limit")
    assert over(scene, lost) == []  # another watch may still tell how its pod ended
    assert started(scene.after(10).settle()) == [1]
    assert "BackoffLimitExceeded" in scene.status.preflight[0].sentence


def test_a_pod_that_ended_is_read_whatever_kubernetes_says_of_its_job() -> None:
    scene = begun()
    actions = over(scene, replace(ended(words(MISTAKE), 2), end=BEGIN, problem="BackoffLimitExceeded: "))
    assert started(actions) == []
    assert scene.says("Failed") == ("True", "UserError")


def test_no_preflight_is_made_of_what_has_to_wait_for_its_parent() -> None:
    scene = Scene(FINETUNE, preflight=True).sees(parents={"PretrainJob/general": parent(ParentState.RUNNING)})
    assert scene.settle() == []
    assert made(scene.sees(parents={"PretrainJob/general": parent(ParentState.SUCCEEDED)}).settle()) == [1]


def test_a_job_in_a_queue_is_tried_before_it_queues() -> None:
    scene = Scene(labels={"kueue.x-k8s.io/queue-name": "team"}, preflight=True)
    scene.settle()
    assert scene.status.state == "Waiting"
    scene.sees(preflights={1: going()})
    over(scene, ended(words(finding(True))))
    assert scene.says("QuotaReserved") == ("False", "Queued")


def test_later_attempts_are_not_tried_again() -> None:
    scene = begun()
    over(scene, ended(words(finding(True))))
    over(scene)
    scene.sees(running()).settle()
    scene.sees(failing("Network")).settle()
    scene.sees(broken(head=None, workers=(), ray_cluster=None))
    actions = scene.after(60).settle()
    assert (started(actions), made(actions)) == ([2], [])


def test_raising_retry_after_a_mistake_tries_again() -> None:
    scene = begun()
    over(scene, ended(words(MISTAKE), 2))
    actions = scene.change(retry=1).settle()
    assert (made(actions), started(actions), deleted(actions)) == ([2], [], [NAME])
    assert scene.status.preflight == []
    actions = over(scene, ended(words(MISTAKE), 2, deleting=True), ended(words(finding(True)), number=2))
    assert started(actions) == [1]


def test_raising_retry_while_it_trains_tries_nothing_again() -> None:
    scene = begun()
    over(scene, ended(words(finding(True))))
    scene.sees(running(), preflights={}).settle()
    assert scene.change(retry=1).settle() == []
    assert scene.says("PreflightPassed") == ("True", "Passed")


def test_the_preflight_of_a_job_that_is_tried_again_has_all_its_time() -> None:
    scene = begun()
    over(scene, ended("Killed", 137))
    scene.sees(running(image="pretrain:1", progress=progress()), preflights={}).settle()
    scene.sees(failing("UserError")).settle()
    scene.after(10 * DEADLINE).sees(broken(head=None, workers=(), ray_cluster=None))
    assert made(scene.change(retry=1).settle()) == [2]
    assert scene.sees(*scene.seen.attempts.values(), preflights={2: going(2)}).after(DEADLINE - 1).settle() == []
    assert scene.says("PreflightPassed") == ("Unknown", "Checking")
    assert started(scene.after(1).settle()) == [2]


def test_a_suspended_job_has_no_preflight_and_a_resumed_one_a_new_one() -> None:
    scene = begun()
    actions = scene.change(suspend=True).settle()
    assert deleted(actions) == [NAME]
    assert scene.says("Suspended") == ("False", "Draining")
    scene.sees(preflights={1: going(deleting=True)}).settle()
    assert scene.says("Suspended") == ("False", "Draining")
    assert over(scene) == []
    assert scene.says("Suspended") == ("True", "Suspended")
    assert scene.says("PreflightPassed") == ("False", "Suspended")
    assert made(scene.change(suspend=False).settle()) == [2]


def test_a_job_can_do_without_also_while_one_runs() -> None:
    assert started(Scene(preflight=False).settle()) == [1]
    scene = begun().change(preflight=False)
    actions = scene.settle()
    assert (started(actions), deleted(actions)) == ([1], [NAME])
    assert scene.says("PreflightPassed") == ("False", "Skipped")


def test_one_that_was_made_before_a_crash_is_followed() -> None:
    scene = Scene(preflight=True)
    scene.sees(preflights={1: ended(words(finding(True)))})
    actions = scene.settle()
    assert (made(actions), deleted(actions), started(actions)) == ([1], [NAME], [1])
