"""A job is tried on CPUs before it takes machines: what is found is on the resource, and a mistake takes none."""

import os

import pytest

from e2e import corpora
from e2e.conftest import Installation
from e2e.world import Document, Namespace, condition

GOOD, MISTAKEN = "pretrainjob/good", "pretrainjob/mistaken"
SECONDS = 180.0


def job(reference: str) -> Document:
    """The chain's first job, on one worker, with a preflight."""
    [found, *_] = corpora.chain()
    found["metadata"]["name"] = reference.partition("/")[2]
    found["spec"] |= {"compute": {"workers": 1, "gpusPerWorker": 0}, "preflight": True}
    return found


def mistaken() -> Document:
    """A job with one source that is not there, and one that has no such column."""
    found = job(MISTAKEN)
    [source] = found["spec"]["data"]["train"]
    missing, other = source | {"uri": "s3://corpora/nothing/*.parquet"}, source | {"column": "body"}
    found["spec"]["data"]["train"] = [missing, other]
    return found


@pytest.fixture(scope="module")
def tried(team: Namespace) -> Namespace:
    """The namespace, with a job in which nothing is wrong, and one with mistakes."""
    team.apply(job(GOOD), mistaken())
    return team


def test_mistakes_fail_a_job_before_there_is_a_ray_job(tried: Namespace) -> None:
    status = tried.wait_for_state(MISTAKEN, "Failed", SECONDS)
    failed = condition(status, "Failed")
    assert failed["reason"] == "UserError"
    assert "spec.data.train[0].uri: s3://corpora/nothing/*.parquet" in failed["message"]
    assert "body" in failed["message"]
    assert status["attemptCount"] == 0
    assert tried.ray_jobs(MISTAKEN) == []


def test_what_a_preflight_finds_of_a_good_job_is_on_the_resource_and_the_job_goes_on(tried: Namespace) -> None:
    status = tried.wait(GOOD, lambda status: status.get("attemptCount") == 1, "to begin its first attempt", SECONDS)
    assert condition(status, "PreflightPassed")["status"] == "True", condition(status, "PreflightPassed")
    assert {found["result"] for found in status["preflight"]} == {"Ok"}
    said = {found["check"]: found["sentence"] for found in status["preflight"]}
    assert "can be written, read and deleted" in said["storage"]
    assert "per rank: weights" in said["memory"]
    assert len(tried.ray_jobs(GOOD)) == 1


def test_nothing_is_left_of_a_preflight(tried: Namespace, installation: Installation) -> None:
    for kind in ("jobs", "pods"):
        tried.kubectl("wait", "--for=delete", "--timeout=60s", kind, "-l", "pretune.dev/preflight")
        assert tried.items(kind, "-l", "pretune.dev/preflight") == []
    # Not by a glob, which fails where the job that has begun removes a folder meanwhile.
    stored = [name for _, _, files in os.walk(installation.buckets / "models") for name in files]
    assert [name for name in stored if name.startswith(".preflight-")] == []
