"""What is done to the cluster on behalf of a job, and what is made of it being done already."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from pretune_api.status import Condition, Status
from pretune_operator.cluster.act import Actor, TakenError
from pretune_operator.cluster.cache import Cache
from pretune_operator.cluster.client import ApiError, Client
from pretune_operator.cluster.kinds import BATCH_JOBS, PRETRAIN_JOBS, RAY_CLUSTERS, RAY_JOBS, Resource
from pretune_operator.cluster.objects import Child, JobKey, StoredJob, StoredPreflight, StoredRayJob
from pretune_operator.cluster.parse import parse
from pretune_operator.decision import (
    DeleteAttempt,
    DeleteCluster,
    DeleteLeftovers,
    DeletePreflight,
    StartAttempt,
    StartPreflight,
)
from pretune_operator.errors import RefusedError
from pretune_operator.plan import Inputs, plan
from support.specs import PRETRAIN
from support.views import UID, settings, view

Json = dict[str, Any]
EXISTS = ApiError(409, "AlreadyExists", "it exists")
CONFLICT = ApiError(409, "Conflict", "the UID in the precondition does not match")
OURS = f"pretune.dev/uid={UID},pretune.dev/attempt"
GONE = ApiError(404, "NotFound", "it is not here")


class Server(Client):
    """An API server that refuses one kind of what is to be made, or whatever is to be deleted."""

    def __init__(self, refuses: str = "", error: ApiError | None = None, owner: str = UID) -> None:
        self.refuses = refuses
        self.error = error
        self.owner = owner
        self.made: list[str] = []
        self.deleted: list[tuple[str, str, str]] = []
        self.cleared: list[tuple[str, str]] = []

    def create(self, resource: Resource, body: Json) -> Json:
        if resource.kind == self.refuses and self.error:
            raise self.error
        assert body["apiVersion"] == f"{resource.group}/{resource.version}".strip("/")
        self.made.append(body["kind"])
        return body | {"metadata": body["metadata"] | meta(body["metadata"]["name"])}

    def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        labels = {"pretune.dev/uid": UID, "pretune.dev/attempt": "1"}
        owned = {"ownerReferences": [{"uid": self.owner}], "labels": labels}
        return {"kind": resource.kind, "metadata": meta(name) | owned}

    def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> Json:
        if self.error:
            raise self.error
        self.deleted.append((resource.kind, name, uid))
        return {"kind": "Status", "metadata": {}}

    def delete_all(self, resource: Resource, namespace: str, selector: str) -> None:
        if self.error:
            raise self.error
        self.cleared.append((resource.kind, selector))


def meta(name: str, version: int = 7) -> Json:
    created = {"creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"namespace": "team", "name": name, "uid": f"uid of {name}", "resourceVersion": str(version)} | created


class Scene:
    """A job, and an actor who writes on its behalf."""

    def __init__(self, server: Server) -> None:
        self.cache = Cache()
        self.actor = Actor(server, self.cache, lambda keys: None, settings())
        self.config = plan(view().resource, Inputs(UID, "team", 1, "cuda"))
        self.cache.put(stored(PRETRAIN_JOBS, PRETRAIN | {"metadata": meta("general") | {"uid": UID}}))

    @property
    def job(self) -> StoredJob:
        job = self.cache.job(JobKey("team", "PretrainJob", "general"))
        assert job is not None
        return job

    def starts(self, number: int = 1, status: Status | None = None) -> None:
        self.actor.act(self.job, replace(view(), status=status or Status()), StartAttempt(number, self.config))

    def ray_jobs(self) -> list[str]:
        return [child.name for child in self.cache.children(self.job, StoredRayJob)]

    def knows(self, name: str) -> "Scene":
        labels = {"pretune.dev/uid": UID, "pretune.dev/attempt": "1"}
        raw = {"metadata": meta(name) | {"labels": labels, "ownerReferences": [{"uid": UID}]}}
        self.cache.put(stored(RAY_JOBS, raw))
        return self


def stored(resource: Resource, raw: Json) -> StoredJob | Child:
    found = parse(resource, raw)
    assert found is not None
    return found


def test_an_attempt_is_known_as_soon_as_it_is_made_and_its_ray_job_is_made_last() -> None:
    server = Server()
    scene = Scene(server)
    scene.starts()
    assert server.made == ["ConfigMap", "NetworkPolicy", "RayJob"]
    assert len(scene.ray_jobs()) == 1


@pytest.mark.parametrize(
    ("number", "said", "cleared"),
    [
        (1, "NoAttempt", []),
        (2, "BackingOff", [("ConfigMap", f"{OURS}=1"), ("NetworkPolicy", f"{OURS}=1")]),
        (1, "Refused", [("NetworkPolicy", f"{OURS}=1")]),
    ],
)
def test_what_attempts_have_left_goes_before_the_next_one_is_made(
    number: int, said: str, cleared: list[tuple[str, str]]
) -> None:
    server = Server()
    running = Condition(type="Running", status="False", reason=said, message="", last_transition_time=datetime.now(UTC))
    Scene(server).starts(number, Status(conditions=[running]))
    assert server.cleared == cleared
    assert server.made == ["ConfigMap", "NetworkPolicy", "RayJob"]


def test_what_attempts_have_left_goes_when_its_time_has_come() -> None:
    server = Server()
    scene = Scene(server)
    scene.actor.act(scene.job, view(), DeleteLeftovers())
    assert server.cleared == [("ConfigMap", OURS), ("NetworkPolicy", OURS)]


def test_an_attempt_is_made_though_what_is_left_of_others_may_not_be_deleted() -> None:
    server = Server(error=ApiError(403, "Forbidden", "deletecollection is forbidden"))
    Scene(server).starts(number=2)
    assert server.made == ["ConfigMap", "NetworkPolicy", "RayJob"]


def test_what_attempts_have_left_is_not_taken_for_deleted_where_the_api_server_is_away() -> None:
    scene = Scene(Server(error=ApiError(500, "InternalError", "etcdserver: request timed out")))
    with pytest.raises(ApiError, match="timed out"):
        scene.actor.act(scene.job, view(), DeleteLeftovers())


def test_a_preflight_is_known_as_soon_as_it_is_made() -> None:
    server = Server()
    scene = Scene(server)
    scene.actor.act(scene.job, view(), StartPreflight(1, scene.config))
    assert server.made == ["Job"]
    assert [made.preflight for made in scene.cache.children(scene.job, StoredPreflight)] == [1]


@pytest.mark.parametrize("kind", ["ConfigMap", "RayJob"])
def test_what_was_made_before_a_crash_is_taken_for_made(kind: str) -> None:
    scene = Scene(Server(kind, EXISTS))
    scene.starts()
    assert len(scene.ray_jobs()) == 1


@pytest.mark.parametrize("kind", ["ConfigMap", "NetworkPolicy", "RayJob"])
def test_what_belongs_to_somebody_else_is_not_taken_for_ours(kind: str) -> None:
    scene = Scene(Server(kind, EXISTS, owner="somebody else"))
    with pytest.raises(TakenError, match=f"{kind} team/ptj-general-.* exists, but does not belong to this job"):
        scene.starts()
    assert scene.ray_jobs() == []


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (ApiError(403, "Forbidden", "exceeded quota"), RefusedError),
        (ApiError(422, "Invalid", "spec: no"), RefusedError),
        (ApiError(400, "BadRequest", "strict decoding error"), RefusedError),
        (ApiError(500, "InternalError", "failed calling webhook: no endpoints"), RefusedError),
        (ApiError(500, "InternalError", "etcdserver: leader changed"), ApiError),
        (ApiError(429, "TooManyRequests", "too many requests"), ApiError),
    ],
    ids=str,
)
def test_what_the_api_server_will_refuse_again_is_told_apart_from_what_it_may_not(
    error: ApiError, raised: type[Exception]
) -> None:
    with pytest.raises(raised, match=str(error)) as found:
        Scene(Server("RayJob", error)).starts()
    assert type(found.value) is raised


def test_what_is_deleted_is_what_was_seen_and_not_what_has_its_name_by_then() -> None:
    server = Server()
    scene = Scene(server).knows("ptj-1")
    scene.actor.act(scene.job, view(), DeleteAttempt("ptj-1"))
    scene.actor.act(scene.job, view(), DeleteAttempt("ptj-2"))
    assert server.deleted == [("RayJob", "ptj-1", "uid of ptj-1")]


@pytest.mark.parametrize(
    ("resource", "label", "action", "name"),
    [
        (RAY_CLUSTERS, "attempt", DeleteCluster("cluster-1"), "cluster-1"),
        (BATCH_JOBS, "preflight", DeletePreflight("preflight-1"), "preflight-1"),
    ],
)
def test_what_is_deleted_is_of_the_kind_that_is_meant(
    resource: Resource, label: str, action: DeleteCluster | DeletePreflight, name: str
) -> None:
    server = Server()
    scene = Scene(server).knows(name)
    labels = {"pretune.dev/uid": UID, f"pretune.dev/{label}": "1"}
    raw = {"metadata": meta(name) | {"uid": "its own", "labels": labels, "ownerReferences": [{"uid": UID}]}}
    scene.cache.put(stored(resource, raw))
    scene.actor.act(scene.job, view(), action)
    assert server.deleted == [(resource.kind, name, "its own")]


@pytest.mark.parametrize("error", [GONE, CONFLICT], ids=str)
def test_what_is_gone_already_is_forgotten(error: ApiError) -> None:
    scene = Scene(Server(error=error)).knows("ptj-1")
    scene.actor.act(scene.job, view(), DeleteAttempt("ptj-1"))
    assert scene.ray_jobs() == []


def test_what_may_not_be_deleted_is_not_taken_for_deleted() -> None:
    scene = Scene(Server(error=ApiError(500, "InternalError", "no"))).knows("ptj-1")
    with pytest.raises(ApiError):
        scene.actor.act(scene.job, view(), DeleteAttempt("ptj-1"))
    assert scene.ray_jobs() == ["ptj-1"]
