"""A job whose data is on a shared filesystem waits for the claim of it, says so, and trains from it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import corpora
from e2e.conftest import Installation
from e2e.world import Document, Namespace, condition

JOB, CLAIM, MOUNT = "pretrainjob/shared", "corpora", "/data"
SECONDS = 180.0
END_SECONDS = 400.0


def job() -> Document:
    """The chain's first job, a few steps of it on one worker, with its data on a volume."""
    [found, *_] = corpora.chain()
    found["metadata"]["name"] = JOB.partition("/")[2]
    spec = found["spec"]
    spec["data"]["train"] = [{"uri": f"file://{MOUNT}/general/*.parquet"}]
    spec["training"] |= {"maxSteps": 4, "warmupSteps": 1}
    volumes = [{"claim": CLAIM, "mountPath": MOUNT}]
    spec |= {"preflight": True, "compute": {"workers": 1, "gpusPerWorker": 0, "volumes": volumes}}
    return found


def volume(name: str, folder: Path) -> Document:
    """A folder of the node as a shared filesystem, which nothing but a claim that names it gets."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "hostPath": {"path": str(folder)},
        },
    }


def claim(of: str) -> Document:
    """The claim that the job names, of that volume."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "volumeName": of,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


@pytest.fixture(scope="module")
def waiting(team: Namespace) -> Document:
    """The status of the job, once it has said what it waits for."""
    team.apply(job())
    return team.wait(JOB, lambda status: CLAIM in condition(status, "Running").get("message", ""), "to wait", SECONDS)


@pytest.fixture(scope="module")
def claimed(team: Namespace, installation: Installation, waiting: Document) -> Iterator[Namespace]:
    """The namespace, with the claim that the job has waited for."""
    name, folder = f"{team.name}-{CLAIM}", installation.buckets / "corpora"
    installation.cluster.bring(folder)
    team.apply(volume(name, folder), claim(name))
    yield team
    team.delete("persistentvolume", name, "--wait=false")  # it goes after its claim, which goes with the namespace


def test_a_claim_that_is_not_there_is_told_with_its_field(waiting: Document) -> None:
    message = condition(waiting, "Running")["message"]
    assert message.startswith("spec.compute.volumes: every claim must exist")
    assert f'persistentvolumeclaim "{CLAIM}" not found' in message


def test_a_preflight_reads_data_on_a_volume(claimed: Namespace) -> None:
    status = claimed.wait(JOB, lambda status: status.get("attemptCount") == 1, "to begin its first attempt", SECONDS)
    assert condition(status, "PreflightPassed")["status"] == "True", condition(status, "PreflightPassed")
    [said] = [found["sentence"] for found in status["preflight"] if found["check"] == "source"]
    assert said.startswith(f"file://{MOUNT}/general/*.parquet: 1 files of ")


def test_a_job_trains_from_a_volume(claimed: Namespace) -> None:
    status = claimed.wait_for_state(JOB, "Succeeded", END_SECONDS)
    assert status["attemptCount"] == 1
    assert status["progress"]["step"] == 4
