"""How often the cluster is counted, and what happens where a namespace refuses that."""

from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pretune_operator.cluster.client import ApiError, Client
from pretune_operator.cluster.kinds import PRETRAIN_JOBS, RAY_JOBS, Resource
from pretune_operator.cluster.objects import JobKey, StoredRayJob
from pretune_operator.cluster.pages import Counted, Page
from pretune_operator.controller import Controller
from pretune_operator.health import RESYNC_SECONDS
from pretune_operator.resync import LONGEST_SECONDS, PERIOD_SECONDS, SHARE, Resync, period_after
from pretune_operator.watches import GRACE_SECONDS, Watch, Watches
from support.views import settings

Json = dict[str, Any]


class Cluster(Client):
    """An API server with jobs and RayJobs in namespaces, some of which refuse the operator."""

    def __init__(self) -> None:
        self.kept: dict[tuple[Resource, str], list[Json]] = {}
        self.refusing: set[str] = set()
        self.version = 10
        self.asked: list[str] = []
        """Paths that were asked for by reconciles."""

    def add(self, resource: Resource, namespace: str, name: str, **meta: Any) -> None:
        self.version += 1
        uid = {"uid": f"{namespace}/{name}", "resourceVersion": str(self.version)}
        created = {"namespace": namespace, "name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
        self.kept.setdefault((resource, namespace), []).append({"metadata": uid | created | meta})

    def list_all(self, resource: Resource, namespace: str | None, selector: str | None) -> Iterator[Page[Json]]:
        yield Page[Json].model_validate(self._said(resource, namespace))

    def census(self, resource: Resource, namespace: str | None, selector: str | None) -> Iterator[Page[Counted]]:
        yield Page[Counted].model_validate(self._said(resource, namespace))

    def get_raw(self, path: str) -> bytes:
        self.asked.append(path)
        raise ApiError(0, "Unreachable", "no reconcile gets any further here")

    def _said(self, resource: Resource, namespace: str | None) -> Json:
        if self.refusing & {namespace, "all"}:
            raise ApiError(403, "Forbidden", f"{resource.plural} is forbidden")
        items = [raw for (kind, place), found in self.kept.items() for raw in found if kind == resource]
        here = [raw for raw in items if namespace in (None, raw["metadata"]["namespace"])]
        return {"items": here, "metadata": {"resourceVersion": str(self.version)}}


def general(namespace: str) -> JobKey:
    return JobKey(namespace, "PretrainJob", "general")


class Look:
    """A resync of a cluster with a running job in each of two namespaces."""

    def __init__(self, *namespaces: str) -> None:
        self.cluster, self.now = Cluster(), 1_000.0
        for namespace in ("team-a", "team-b"):
            self.cluster.add(PRETRAIN_JOBS, namespace, "general")
            labels = {"pretune.dev/uid": f"{namespace}/general", "pretune.dev/attempt": "1"}
            owner = {"ownerReferences": [{"uid": f"{namespace}/general"}]}
            self.cluster.add(RAY_JOBS, namespace, "ptj-general-1", labels=labels, **owner)
        self.controller = Controller(self.cluster, settings())
        self.watches = Watches(lambda: self.now)
        self.resync = Resync(self.cluster, self.controller, self.watches, namespaces)

    def jobs(self) -> list[JobKey]:
        """Jobs that are looked after."""
        return [job.key for job in self.controller.cache.jobs()]

    def reconciles(self, key: JobKey) -> bool:
        """Whether a job is reconciled when its turn comes."""
        self.cluster.asked.clear()
        self.controller.work(key)
        return bool(self.cluster.asked)

    def woken(self) -> set[JobKey]:
        """Jobs whose turn has come."""
        keys = set()
        while len(self.controller.queue):
            key = self.controller.queue.take()
            assert key is not None
            self.controller.queue.done(key)
            keys.add(key)
        return keys

    def ray_jobs(self, namespace: str) -> list[str]:
        """RayJobs that are known of the job in a namespace."""
        known = self.controller.cache.job(general(namespace))
        return [child.name for child in self.controller.cache.children(known, StoredRayJob)] if known else []


def test_a_namespace_that_refuses_is_left_out_and_all_others_are_looked_after() -> None:
    look = Look("team-a", "team-b")
    look.cluster.refusing.add("team-b")
    assert look.resync.sync()
    assert look.resync.last > float("-inf")
    assert look.jobs() == [general("team-a")]
    assert look.reconciles(general("team-a"))


def test_of_a_namespace_that_refuses_later_nothing_is_forgotten_and_nothing_decided() -> None:
    look = Look("team-a", "team-b")
    assert look.resync.sync()
    assert look.reconciles(general("team-b"))
    look.cluster.refusing.add("team-b")
    assert look.resync.sync()
    assert look.ray_jobs("team-b") == ["ptj-general-1"]
    assert not look.reconciles(general("team-b"))
    assert look.jobs() == [general("team-a")]


def test_a_namespace_that_refuses_no_longer_is_listed_anew_and_its_jobs_are_looked_at() -> None:
    look = Look("team-a", "team-b")
    look.resync.sync()
    look.cluster.refusing.add("team-b")
    look.resync.sync()
    look.woken()
    look.cluster.refusing.clear()
    look.cluster.kept[RAY_JOBS, "team-b"].clear()
    look.cluster.add(PRETRAIN_JOBS, "team-b", "another")
    assert look.resync.sync()
    assert look.woken() == {general("team-b"), JobKey("team-b", "PretrainJob", "another")}
    assert look.ray_jobs("team-b") == []


def test_no_watch_in_a_namespace_that_refuses_is_said_to_hang() -> None:
    look = Look("team-a", "team-b")
    look.resync.sync()
    for namespace in ("team-a", "team-b"):
        look.cluster.add(RAY_JOBS, namespace, "another")
    look.resync.sync()
    look.cluster.refusing.add("team-b")
    look.resync.sync()
    look.now += GRACE_SECONDS + 1
    assert look.watches.hanging() == [Watch(RAY_JOBS, "team-a")]


def test_a_cluster_that_is_restored_to_an_earlier_state_is_noticed() -> None:
    look = Look()
    assert look.resync.sync()
    assert look.resync.sync()
    assert not look.resync.rewound
    look.cluster.kept[PRETRAIN_JOBS, "team-a"][0]["metadata"]["resourceVersion"] = "3"
    assert look.resync.sync()
    assert look.resync.rewound


def test_an_operator_of_all_namespaces_has_not_seen_a_cluster_that_refuses() -> None:
    look = Look()
    look.cluster.refusing.add("all")
    assert not look.resync.sync()
    look.cluster.refusing.clear()
    assert look.resync.sync()
    assert set(look.jobs()) == {general("team-a"), general("team-b")}


@given(spent=st.floats(0, PERIOD_SECONDS * SHARE))
def test_a_cluster_that_is_counted_quickly_is_counted_every_minute(spent: float) -> None:
    assert period_after(spent) == PERIOD_SECONDS


@given(spent=st.floats(PERIOD_SECONDS * SHARE, LONGEST_SECONDS * SHARE))
def test_a_large_cluster_is_counted_as_often_as_a_hundredth_of_a_core_can(spent: float) -> None:
    assert spent / period_after(spent) <= SHARE * 1.001


@given(spent=st.floats(0, 1e6))
def test_no_cluster_is_so_large_that_the_operator_counts_as_unhealthy_before_it_counts_again(spent: float) -> None:
    assert PERIOD_SECONDS <= period_after(spent) <= RESYNC_SECONDS / 2
