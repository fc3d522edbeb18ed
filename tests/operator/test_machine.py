"""What one reconcile after the other comes to, beside what is decided in it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from pretune_operator import progress
from pretune_operator.cluster.client import ApiError, Client
from pretune_operator.cluster.kinds import PODS, PRETRAIN_JOBS, RAY_JOBS
from pretune_operator.cluster.objects import JobKey, StoredJob, StoredPod, StoredRayJob
from pretune_operator.cluster.parse import parse
from pretune_operator.machine import Machine
from pretune_operator.observed import SeenPod
from support.specs import PRETRAIN, changed
from support.views import settings

Json = dict[str, Any]
KEY = JobKey("team", "PretrainJob", "general")
STEPS = {"step": 5, "total": 10, "percent": 50}


class Server(Client):
    """An API server that offers KubeRay, and keeps what is said of a job."""

    def __init__(self) -> None:
        self.written: list[Json] = []
        self.refusal: ApiError | None = None

    def text(self, path: str) -> bytes:
        ray = json.dumps({"paths": {"apis/ray.io/v1": {"serverRelativeURL": "/ray"}}}).encode()
        return ray if path == "/openapi/v3" else b'"authOptions"'

    def get(self, resource: object, namespace: str | None, name: str) -> Json:
        raise ApiError(404, "NotFound", f"{name} is not here")

    def create(self, resource: object, body: Json) -> Json:
        assert self.refusal is not None, "nothing is to be made"
        raise self.refusal

    def replace_status(self, resource: object, body: Json) -> Json:
        self.written.append(body["status"])
        return changed(PRETRAIN, {}) | {"metadata": meta("general", "0123-4567", 10 + len(self.written))} | body


def meta(name: str, uid: str, version: int = 5, **labels: str) -> Json:
    owners = [{"uid": "0123-4567"}]
    created = {"creationTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": owners, "generation": 1}
    return {"namespace": "team", "name": name, "uid": uid, "resourceVersion": str(version), "labels": labels} | created


def machine(status: Json, **spec: Any) -> tuple[Machine, Server]:
    """A machine that sees one job, whose first attempt runs; `spec` has fields that are not as in PRETRAIN."""
    server = Server()
    machine = Machine(server, settings())
    document = changed(PRETRAIN, {f"spec.{name}": value for name, value in spec.items()})
    job = document | {"metadata": meta("general", "0123-4567"), "status": status}
    ours = {"pretune.dev/uid": "0123-4567", "pretune.dev/attempt": "1"}
    runs = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "rayClusterName": "first"}
    ray_job = {"metadata": meta("ptj-1", "ray", **ours), "spec": {}, "status": runs}
    head = meta("head", "pod", **ours, **{"ray.io/cluster": "first", "ray.io/node-type": "head"})
    pod = {"metadata": head, "spec": {}, "status": {"phase": "Running"}}
    for resource, raw in ((PRETRAIN_JOBS, job), (RAY_JOBS, ray_job), (PODS, pod)):
        stored = parse(resource, raw)
        assert stored is not None
        machine.cache.put(stored)
    return machine, server


def test_a_machine_that_reads_no_progress_any_more_is_not_alive() -> None:
    working, _ = machine({})
    working.start()
    assert working.alive
    working.readings.stop()
    assert not working.alive
    working.stop()


def test_a_job_whose_status_a_newer_version_has_written_is_looked_after() -> None:
    since = {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    said = {"type": "UnheardOf", "status": "True", "reason": "New", "message": ""} | since
    working, server = machine({"progress": STEPS | {"unheardOf": 1}, "unheardOf": {}, "conditions": [said]})
    working.work(KEY)
    assert server.written[-1]["attemptCount"] == 1
    assert server.written[-1]["progress"] == STEPS


def test_an_attempt_of_a_job_that_is_not_valid_any_more_can_still_be_suspended() -> None:
    working, server = machine({}, unheardOf=1, suspend=True)
    working.work(KEY)
    said = {condition["type"]: condition["reason"] for condition in server.written[-1]["conditions"]}
    assert (said["Accepted"], said["Running"], said["Suspended"]) == ("UserError", "Training", "Draining")


def test_what_a_head_said_is_forgotten_once_the_ray_job_no_longer_names_its_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = json.dumps({"state": "Running", **STEPS}).encode()
    monkeypatch.setattr(progress, "_answer", lambda ip: said)
    working, _ = machine({})
    (ray_job,) = working.cache.children(job_of(working), StoredRayJob)
    head = SeenPod("head", "Running", ip="10.0.0.1")
    assert working.readings.look(KEY, ray_job, head, ending=True) is not None
    working.work(KEY)
    assert working.readings.look(KEY, ray_job, None, ending=True) is not None
    working.cache.put(replace(ray_job, ray_cluster=None, suspended=True, version=6))
    working.work(KEY)
    assert working.readings.look(KEY, ray_job, None, ending=True) is None


def job_of(working: Machine) -> StoredJob:
    job = working.cache.job(KEY)
    assert job is not None
    return job


@pytest.mark.parametrize(
    ("refusal", "written"),
    [
        (ApiError(500, "InternalError", 'failed calling webhook "mrayjob.kb.io": no endpoints'), ["Refused"]),
        (ApiError(403, "Forbidden", "exceeded quota"), ["Refused"]),
        (ApiError(500, "InternalError", "etcdserver: leader changed"), []),
    ],
)
def test_what_keeps_an_attempt_from_being_made_is_told_by_status(refusal: ApiError, written: list[str]) -> None:
    working, server = machine({}, preflight=False)
    job = working.cache.job(KEY)
    assert job is not None
    for child in [*working.cache.children(job, StoredRayJob), *working.cache.children(job, StoredPod)]:
        working.cache.remove(child)
    server.refusal = refusal
    working.work(KEY)
    said = [condition for status in server.written for condition in status["conditions"]]
    assert [condition["reason"] for condition in said if condition["type"] == "Running"] == written
