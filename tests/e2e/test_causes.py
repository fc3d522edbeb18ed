"""What goes wrong is named: each cause in the job's status, with a message that a person can act on."""

import pytest

from e2e import corpora
from e2e.conftest import Installation
from e2e.world import Document, Namespace, condition
from pretune_cli.__main__ import main

PENDING_SECONDS = 240.0
RUNNING_SECONDS = 500


def job(name: str, start_seconds: int = 60, **compute: object) -> Document:
    """A job that gives up a start after a while."""
    [found, *_] = corpora.chain()
    found["metadata"]["name"] = name
    found["spec"]["compute"] |= {"workers": 1} | compute
    found["spec"]["failurePolicy"] = {
        "startDeadlineSeconds": start_seconds,
        "retries": {"outOfMemory": 0, "unknown": 0, "interrupted": 0},
    }
    return found


def failed(team: Namespace, name: str, seconds: float) -> tuple[str, str]:
    """Cause and message of a job, once it has failed."""
    status = team.wait_for_state(f"pretrainjob/{name}", "Failed", seconds)
    found = condition(status, "Failed")
    return found["reason"], found["message"]


@pytest.fixture(scope="module")
def pending(team: Namespace, crowded: Namespace) -> None:
    """Jobs whose pods can never run, all at once."""
    team.apply(job("no-image", image="pretune.test/there-is-none:1"))
    team.apply(job("no-node", pool="gpu", workers=2, gpusPerWorker=8))
    team.apply(job("no-pool", pool="h100"))
    crowded.apply(job("no-quota"))


@pytest.mark.usefixtures("pending")
def test_an_image_that_does_not_exist_is_the_cause_image_pull(team: Namespace) -> None:
    cause, message = failed(team, "no-image", PENDING_SECONDS)
    assert cause == "ImagePull"
    assert "pretune.test/there-is-none:1" in message


@pytest.mark.usefixtures("pending")
def test_a_pool_without_a_free_node_is_the_cause_unschedulable(team: Namespace) -> None:
    cause, message = failed(team, "no-node", PENDING_SECONDS)
    assert cause == "Unschedulable"
    assert "nvidia.com/gpu" in message


@pytest.mark.usefixtures("pending")
def test_a_namespace_without_quota_left_is_the_cause_quota(crowded: Namespace) -> None:
    cause, message = failed(crowded, "no-quota", PENDING_SECONDS)
    assert cause == "Quota"
    assert "exceeded quota" in message


@pytest.mark.usefixtures("pending")
def test_a_pool_that_does_not_exist_is_an_error_of_the_user(team: Namespace) -> None:
    cause, message = failed(team, "no-pool", PENDING_SECONDS)
    assert cause == "UserError"
    assert "h100" in message
    assert "spec.compute.pool" in message
    assert team.ray_jobs("pretrainjob/no-pool") == []


@pytest.fixture(scope="module")
def running(team: Namespace) -> None:
    """Jobs that fail as they run, all at once."""
    missing = job("no-data", RUNNING_SECONDS)
    missing["spec"]["data"]["train"][0]["uri"] = "s3://corpora/nothing/*.parquet"
    team.apply(missing, job("no-memory", RUNNING_SECONDS, resources={"memory": "400Mi"}))


@pytest.mark.usefixtures("running")
def test_a_mistake_of_the_user_is_not_tried_again(team: Namespace) -> None:
    cause, message = failed(team, "no-data", RUNNING_SECONDS)
    assert cause == "UserError"
    assert "s3://corpora/nothing/*.parquet" in message
    status = team.status("pretrainjob/no-data")
    assert status["attemptCount"] == 1
    assert "s3://corpora/nothing/*.parquet" in status["attempts"][0]["log"]


@pytest.mark.usefixtures("running")
def test_the_whole_log_of_a_failed_attempt_is_in_storage(
    team: Namespace, installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    failed(team, "no-data", RUNNING_SECONDS)
    for options in ((), ("--rank", "0")):
        assert main(["logs", str(installation.folder_of(team, "pretrainjob/no-data")), *options]) == 0
        assert "s3://corpora/nothing/*.parquet" in capsys.readouterr().out


@pytest.mark.usefixtures("running")
def test_a_memory_limit_that_is_too_small_is_the_cause_out_of_memory(team: Namespace) -> None:
    cause, message = failed(team, "no-memory", RUNNING_SECONDS)
    assert cause == "OutOfMemory"
    assert "spec.compute.resources.memory" in message
