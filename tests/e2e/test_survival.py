"""One job through what clusters do, in this order: a worker lost, the head lost, a node drained, a suspension."""

import time

import pytest

from e2e import corpora
from e2e.conftest import Installation
from e2e.tracker import Tracker
from e2e.world import Namespace

pytestmark = pytest.mark.long

JOB = "pretrainjob/survivor"
KILL_RAY = "for process in /proc/[0-9]*; do grep -qx raylet $process/comm && kill -9 ${process#/proc/}; done; true"
"""Ends Ray on a worker at once, and so its pod's container: no hook runs, as when a machine dies."""
START_SECONDS = 400.0
"""Time that a Ray cluster may take here from nothing to the first step."""


@pytest.fixture(scope="module")
def training(team: Namespace, tracker: Tracker, undisturbed: dict[str, float]) -> Namespace:
    """The namespace, with the job at work, and a tracker told of it."""
    team.apply(tracker.credentials, tracker.followed(corpora.survivor()))
    team.wait_for_step(JOB, corpora.SURVIVORS_CHECKPOINTS + 1, START_SECONDS)
    return team


def test_after_a_lost_worker_training_goes_on_within_90_seconds(training: Namespace) -> None:
    worker = training.pods(JOB, "worker")[0]["metadata"]["name"]
    run = training.status(JOB)["attempts"][-1]["runs"]
    training.kubectl("exec", worker, "--", "sh", "-c", KILL_RAY)
    began = time.monotonic()
    status = training.wait(
        JOB,
        lambda status: status["attempts"][-1]["runs"] > run and status["state"] == "Running",
        "to train again in another run",
        180.0,
    )
    assert time.monotonic() - began < 90
    assert status["attemptCount"] == 1


def test_a_lost_head_is_followed_by_one_attempt_from_the_last_commit(
    training: Namespace, installation: Installation
) -> None:
    training.delete(
        "pod", training.pods(JOB, "head")[0]["metadata"]["name"], "--grace-period=0", "--force", "--wait=false"
    )
    status = training.wait(JOB, lambda status: status["attemptCount"] == 2, "to be tried again", 60.0)
    assert status["attempts"][0]["cause"] == "HeadLost"
    committed = installation.last_commit(training, JOB)
    status = training.wait_for_step(JOB, committed, START_SECONDS)
    assert status["attempts"][-1]["fromStep"] == committed
    assert status["attemptCount"] == 2


def test_a_drained_node_costs_an_attempt_and_no_step(training: Namespace, installation: Installation) -> None:
    before = training.wait_for_step(JOB, installation.last_commit(training, JOB) + 1, START_SECONDS)
    training.evict(training.pods(JOB, "worker")[0]["metadata"]["name"])
    attempts = before["attemptCount"] + 1
    status = training.wait(JOB, lambda status: status["attemptCount"] == attempts, "to be tried again", 180.0)
    drained = installation.last_commit(training, JOB)
    assert status["attempts"][-2]["cause"] == "Preempted"
    assert drained >= status["progress"]["step"]
    status = training.wait_for_step(JOB, drained, START_SECONDS)
    assert status["attempts"][-1]["fromStep"] == drained


def test_a_suspension_commits_first_and_its_end_resumes_there(training: Namespace, installation: Installation) -> None:
    training.patch(JOB, {"suspend": True})
    status = training.wait_for_state(JOB, "Suspended", 180.0)
    left = training.items("pods", "-l", "pretune.dev/name=survivor")
    assert [pod for pod in left if pod["status"]["phase"] in ("Pending", "Running")] == []
    drained = installation.last_commit(training, JOB)
    assert drained >= status["progress"]["step"]
    training.patch(JOB, {"suspend": False})
    status = training.wait_for_step(JOB, drained, START_SECONDS)
    assert status["attempts"][-1]["fromStep"] == drained


def test_what_was_learnt_is_what_an_undisturbed_run_learns(training: Namespace, undisturbed: dict[str, float]) -> None:
    status = training.wait_for_state(JOB, "Succeeded", 600.0)
    assert status["metrics"] == {name: pytest.approx(value, abs=1e-4) for name, value in undisturbed.items()}


def test_a_tracker_has_seen_one_run_go_on_through_all_of_it(training: Namespace, tracker: Tracker) -> None:
    status = training.wait_for_state(JOB, "Succeeded", 600.0)
    [run] = tracker.runs(training, "survivor")
    assert run.info.status == "FINISHED"
    steps = tracker.losses(run)
    assert (min(steps), max(steps)) == (1, corpora.SURVIVORS_STEPS)
    assert {name: run.data.metrics[f"validation/{name}"] for name in status["metrics"]} == status["metrics"]
