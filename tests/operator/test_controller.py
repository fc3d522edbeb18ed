"""What one reconcile after the other comes to, beside what is decided in it."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from pretune_operator.cluster import progress
from pretune_operator.cluster.client import ApiError, Client
from pretune_operator.cluster.kinds import PODS, PRETRAIN_JOBS, RAY_CLUSTERS, RAY_JOBS, Resource
from pretune_operator.cluster.objects import JobKey, StoredJob, StoredPod, StoredRayJob
from pretune_operator.cluster.parse import parse
from pretune_operator.cluster.recorder import Recorder
from pretune_operator.controller import Controller
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
        self.refusal: Exception | None = None

    def get_raw(self, path: str) -> bytes:
        ray = json.dumps({"paths": {"apis/ray.io/v1": {"serverRelativeURL": "/ray"}}}).encode()
        return ray if path == "/openapi/v3" else b'"authOptions"'

    def get(self, resource: object, namespace: str | None, name: str) -> Json:
        raise ApiError(404, "NotFound", f"{name} is not here")

    def create(self, resource: object, body: Json) -> Json:
        assert self.refusal is not None, "nothing is to be made"
        raise self.refusal

    def replace_status(self, resource: object, body: Json) -> Json:
        self.written.append(body["status"])
        return PRETRAIN | body | {"metadata": meta("general", "0123-4567", 10 + len(self.written))}


def meta(name: str, uid: str, version: int = 5, labels: dict[str, str] | None = None) -> Json:
    named = {"namespace": "team", "name": name, "uid": uid, "labels": labels or {}}
    owners = [{"uid": "0123-4567"}]
    created = {"creationTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": owners, "generation": 1}
    return named | created | {"resourceVersion": str(version)}


def controller(status: Json, server: Server | None = None, **spec: Any) -> tuple[Controller, Server]:
    """A controller that sees one job, whose first attempt runs; `spec` has fields that are not as in PRETRAIN."""
    server = server or Server()
    made = Controller(server, settings())
    document = changed(PRETRAIN, {f"spec.{name}": value for name, value in spec.items()})
    job = document | {"metadata": meta("general", "0123-4567"), "status": status}
    ours = {"pretune.dev/uid": "0123-4567", "pretune.dev/attempt": "1"}
    of_head = {"ray.io/cluster": "first", "ray.io/node-type": "head"}
    runs = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "rayClusterName": "first"}
    ray_job = {"metadata": meta("ptj-1", "ray", labels=ours), "spec": {}, "status": runs}
    head = meta("head", "pod", labels=ours | of_head)
    pod = {"metadata": head, "spec": {}, "status": {"phase": "Running"}}
    for resource, raw in ((PRETRAIN_JOBS, job), (RAY_JOBS, ray_job), (PODS, pod)):
        stored = parse(resource, raw)
        assert stored is not None
        made.cache.put(stored)
    return made, server


def test_a_controller_that_reads_no_progress_any_more_is_not_alive() -> None:
    working, _ = controller({})
    working.start()
    alive = [working.alive]
    working.readings.stop()
    assert [*alive, working.alive] == [True, False]
    working.stop()


def test_a_job_whose_status_a_newer_version_has_written_is_looked_after() -> None:
    since = {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    said = {"type": "UnheardOf", "status": "True", "reason": "New", "message": ""} | since
    working, server = controller({"progress": STEPS | {"unheardOf": 1}, "unheardOf": {}, "conditions": [said]})
    working.work(KEY)
    assert server.written[-1]["attemptCount"] == 1
    assert server.written[-1]["progress"] == STEPS


def test_an_attempt_of_a_job_that_is_not_valid_any_more_can_still_be_suspended() -> None:
    working, server = controller({}, unheardOf=1, suspend=True)
    working.work(KEY)
    said = {condition["type"]: condition["reason"] for condition in server.written[-1]["conditions"]}
    assert (said["Accepted"], said["Running"], said["Suspended"]) == ("UserError", "Training", "Draining")


def test_what_a_head_said_is_forgotten_once_the_ray_job_no_longer_names_its_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = json.dumps({"state": "Running", **STEPS}).encode()
    monkeypatch.setattr(progress, "_answer", lambda ip: said)
    working, _ = controller({})
    (ray_job,) = working.cache.children(job_of(working), StoredRayJob)
    head = SeenPod("head", "Running", ip="10.0.0.1")
    assert working.readings.look(KEY, ray_job, head, ending=True) is not None
    working.work(KEY)
    assert working.readings.look(KEY, ray_job, None, ending=True) is not None
    working.cache.put(replace(ray_job, ray_cluster=None, suspended=True, version=6))
    working.work(KEY)
    assert working.readings.look(KEY, ray_job, None, ending=True) is None


def test_the_head_of_a_job_that_is_deleted_is_read_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    said = json.dumps({"state": "Running", **STEPS}).encode()
    monkeypatch.setattr(progress, "_answer", lambda ip: said)
    working, _ = controller({})
    (ray_job,) = working.cache.children(job_of(working), StoredRayJob)
    assert working.readings.look(KEY, ray_job, SeenPod("head", "Running", ip="10.0.0.1"), ending=True) is not None
    working.cache.remove(job_of(working))
    working.work(KEY)
    assert working.readings.look(KEY, ray_job, None, ending=True) is None


def job_of(working: Controller) -> StoredJob:
    job = working.cache.job(KEY)
    assert job is not None
    return job


def without_attempts(working: Controller) -> None:
    """Nothing was made of the job yet."""
    job = job_of(working)
    for child in [*working.cache.children(job, StoredRayJob), *working.cache.children(job, StoredPod)]:
        working.cache.remove(child)


class Making(Server):
    """An API server that makes what it is asked for."""

    def create(self, resource: object, body: Json) -> Json:
        made = {"uid": body["metadata"]["name"], "resourceVersion": "9", "creationTimestamp": "2026-01-01T00:00:00Z"}
        return body | {"metadata": body["metadata"] | made}


def test_an_attempt_and_what_is_seen_of_it_at_once_are_told_by_one_write() -> None:
    working, server = controller({}, Making(), preflight=False)
    without_attempts(working)
    working.work(KEY)
    (written,) = server.written
    assert (written["attemptCount"], written["state"]) == (1, "Starting")
    assert {said["type"]: said["reason"] for said in written["conditions"]}["Running"] == "Starting"


def test_status_is_written_later_while_other_jobs_wait_for_their_first_attempt() -> None:
    working, server = controller({}, Making(), preflight=False)
    without_attempts(working)
    another = JobKey("team", "PretrainJob", "another")
    new = parse(PRETRAIN_JOBS, PRETRAIN | {"metadata": meta("another", "89ab")})
    assert new is not None
    working.wake(working.cache.put(new))
    working.work(KEY)
    assert len(working.cache.children(job_of(working), StoredRayJob)) == 1
    assert server.written == []
    assert len(working.queue) == 2
    assert [working.queue.take(), working.queue.take()] == [another, KEY]


class Deleting(Server):
    """An API server that deletes what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.cleared: list[str] = []

    def delete(self, resource: object, namespace: str, name: str, uid: str) -> Json:
        return {"kind": "Status", "metadata": {}}

    def delete_all(self, resource: Resource, namespace: str, selector: str) -> None:
        self.cleared.append(resource.plural)


def test_what_follows_from_a_deletion_is_decided_at_once() -> None:
    working, _ = controller({}, Deleting())
    working.work(KEY)
    (ray_job,) = working.cache.children(job_of(working), StoredRayJob)
    (head,) = working.cache.children(job_of(working), StoredPod)
    ours = {"pretune.dev/uid": "0123-4567", "pretune.dev/attempt": "1"}
    ray_cluster = parse(RAY_CLUSTERS, {"metadata": meta("first", "cluster", labels=ours)})
    assert ray_cluster is not None
    working.cache.put(ray_cluster)
    working.cache.put(replace(ray_job, deployment_status="Failed", job_status="FAILED", version=6))
    working.cache.remove(head)
    waiting = []
    for _ in range(2):
        working.work(KEY)
        waiting.append(len(working.queue))
    assert waiting == [0, 1]


def test_nothing_follows_from_the_deletion_of_what_attempts_have_left() -> None:
    server = Deleting()
    now = datetime.now(UTC).isoformat()
    finished = {"type": "Finished", "status": "True", "reason": "Failed", "message": "", "lastTransitionTime": now}
    working, _ = controller({"completionTime": now, "conditions": [finished]}, server, ttlSecondsAfterFinished=0)
    for kept in (StoredRayJob, StoredPod):
        for child in working.cache.children(job_of(working), kept):
            working.cache.remove(child)
    working.work(KEY)
    assert server.cleared == ["configmaps", "networkpolicies"]
    assert len(working.queue) == 0


class Failing(Server):
    """An API server whose store does not answer."""

    def replace_status(self, resource: object, body: Json) -> Json:
        raise self.refusal or ApiError(500, "InternalError", "etcdserver: request timed out")


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (None, ["ReconcileFailed"]),
        (ZeroDivisionError("a mistake of ours, which ends the work on no other job"), ["ReconcileFailed"]),
        (ApiError(409, "Conflict", "it was changed"), []),
    ],
)
def test_a_reconcile_that_fails_for_the_third_time_in_a_row_is_told_and_again_when_the_event_is_gone(
    monkeypatch: pytest.MonkeyPatch, refusal: Exception | None, told: list[str]
) -> None:
    events: list[str] = []
    monkeypatch.setattr(Recorder, "record", lambda _, job, event: events.append(event.reason))
    working, server = controller({}, Failing())
    server.refusal = refusal
    heard = []
    for _ in range(65):
        working.work(KEY)
        heard.append(list(events))
    assert heard == [[]] * 2 + [told] * 60 + [told * 2] * 3


def test_all_that_is_under_way_is_looked_at_once_kueue_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    now, paths = 1_000.0, iter([None, "{}", None, '{"apis/kueue.x-k8s.io/v1beta1": {"serverRelativeURL": "/kueue"}}'])
    monkeypatch.setattr("pretune_operator.cluster.discovery.time.monotonic", lambda: now)

    def get_raw(path: str) -> bytes:
        if (served := next(paths)) is None:
            raise ApiError(503, "ServiceUnavailable", "it is away")
        return f'{{"paths": {served}}}'.encode()

    working, server = controller({})
    monkeypatch.setattr(server, "get_raw", get_raw)
    woken = []
    for _ in range(4):
        now += 6
        working.check_cluster()
        woken.append(len(working.queue))
    assert woken == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("refusal", "written"),
    [
        (ApiError(500, "InternalError", 'failed calling webhook "mrayjob.kb.io": no endpoints'), ["Refused"]),
        (ApiError(403, "Forbidden", "exceeded quota"), ["Refused"]),
        (ApiError(500, "InternalError", "etcdserver: leader changed"), []),
    ],
)
def test_what_keeps_an_attempt_from_being_made_is_told_by_status(refusal: ApiError, written: list[str]) -> None:
    working, server = controller({}, preflight=False)
    without_attempts(working)
    server.refusal = refusal
    working.work(KEY)
    said = [condition for status in server.written for condition in status["conditions"]]
    assert [condition["reason"] for condition in said if condition["type"] == "Running"] == written
