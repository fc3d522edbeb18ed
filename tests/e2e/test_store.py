"""Each namespace has a store of its own: others' credentials open it not, and when it is away its jobs wait for it."""

import pytest

from e2e import corpora
from e2e.cluster.s3 import S3Server
from e2e.world import Document, Namespace, condition

pytestmark = pytest.mark.long

START_SECONDS = 400.0
AWAY_SECONDS = 240.0
"""Time in which an attempt gives its store up, which it asks for a minute, and the operator says so."""


def job(name: str) -> Document:
    """The first job of the chain, on one worker."""
    [found, *_] = corpora.chain()
    found["metadata"]["name"] = name
    found["spec"]["compute"]["workers"] = 1
    return found


def test_a_store_that_is_away_is_waited_for_and_the_job_goes_on_from_its_commit(
    other_team: Namespace, store: S3Server
) -> None:
    patient = corpora.in_store(job("patient"), store.endpoint)
    patient["spec"]["training"]["maxSteps"] = 300
    patient["spec"]["checkpoint"] = {"everySteps": 50}
    with store.running():
        other_team.apply(patient)
        other_team.wait_for_step("pretrainjob/patient", 60, START_SECONDS)
    status = other_team.wait("pretrainjob/patient", lambda found: bool(found["failures"]), "to give up", AWAY_SECONDS)
    assert status["attempts"][0]["cause"] == "StorageUnavailable"
    with store.running():
        status = other_team.wait_for_state("pretrainjob/patient", "Succeeded", START_SECONDS)
    assert status["attempts"][-1]["fromStep"] >= 50


def test_the_store_of_another_team_refuses(other_team: Namespace) -> None:
    other_team.apply(job("intruder"))
    status = other_team.wait_for_state("pretrainjob/intruder", "Failed", START_SECONDS)
    assert condition(status, "Failed")["reason"] == "StorageDenied"
    assert "s3://" in condition(status, "Failed")["message"]
