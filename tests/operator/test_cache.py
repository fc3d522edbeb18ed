"""What the operator remembers of the cluster, whatever order it hears of it in."""

import json
from dataclasses import replace
from typing import Any

import pytest

from pretune_api import problems
from pretune_operator.cluster.cache import Cache
from pretune_operator.cluster.kinds import FINETUNE_JOBS, PODS, PRETRAIN_JOBS, RAY_JOBS
from pretune_operator.cluster.objects import JobKey, StoredJob, StoredPod, StoredRayJob
from pretune_operator.cluster.parse import parse
from support.specs import PRETRAIN, changed

Json = dict[str, Any]

GENERAL, CLASSIFY = JobKey("team", "PretrainJob", "general"), JobKey("team", "FinetuneJob", "classify")


def job(version: int = 1, uid: str = "u1", **status: Any) -> StoredJob:
    raw = resource("general", version, uid) | {"spec": {"suspend": False}, "status": status}
    stored = parse(PRETRAIN_JOBS, raw)
    assert isinstance(stored, StoredJob)
    return stored


def child(version: int = 2) -> StoredJob:
    raw = resource("classify", version, "u2") | {"spec": {"model": {"from": {"pretrainJob": "general"}}}}
    stored = parse(FINETUNE_JOBS, raw)
    assert isinstance(stored, StoredJob)
    return stored


def ray_job(version: int = 5, owner: str = "u1", **status: Any) -> StoredRayJob | None:
    raw = resource("ptj-general-1", version, "r1") | {"status": status}
    raw["metadata"] |= {"labels": labels(), "ownerReferences": [{"uid": owner}]}
    stored = parse(RAY_JOBS, raw)
    assert stored is None or isinstance(stored, StoredRayJob)
    return stored


def pod(version: int = 6, **status: Any) -> StoredPod:
    raw = resource("ptj-general-1-abcde-head", version, "p1") | {"status": {"phase": "Running"} | status}
    raw["metadata"]["labels"] = labels() | {"ray.io/cluster": "ptj-general-1-abcde", "ray.io/node-type": "head"}
    stored = parse(PODS, raw)
    assert isinstance(stored, StoredPod)
    return stored


def resource(name: str, version: int, uid: str) -> Json:
    created = {"creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": {"namespace": "team", "name": name, "uid": uid, "resourceVersion": str(version)} | created}


def labels() -> dict[str, str]:
    return {"pretune.dev/uid": "u1", "pretune.dev/attempt": "1"}


@pytest.fixture
def cache() -> Cache:
    return Cache()


def test_the_newest_version_wins(cache: Cache) -> None:
    assert cache.put(job(2, state="Running")) == {GENERAL}
    assert cache.put(job(1, state="Pending")) == set()
    known = cache.job(GENERAL)
    assert known is not None
    assert known.shown == "Running"


def test_a_change_of_what_nobody_reads_wakes_nobody(cache: Cache) -> None:
    cache.put(job())
    assert cache.put(pod(6)) == {GENERAL}
    assert cache.put(pod(7, startTime="2026-01-01T00:00:01Z")) == set()
    assert cache.put(pod(8, podIP="10.0.0.1")) == {GENERAL}


def test_how_far_a_job_is_by_the_word_of_another_operator_is_kept_and_wakes_nobody(cache: Cache) -> None:
    """Each of two operators has read the head at another moment, and would take back what the other has written."""
    cache.put(job(1, state="Running"))
    assert cache.put(job(2, state="Running", progress={"step": 5}, metrics={"loss": 2.5})) == set()
    known = cache.job(GENERAL)
    assert known is not None
    assert json.loads(known.status)["progress"] == {"step": 5}


def test_what_is_left_of_a_job_that_is_gone_wakes_nobody(cache: Cache) -> None:
    assert cache.put(pod()) == set()
    assert cache.remove(pod(phase="Failed")) == set()


def test_what_is_gone_does_not_come_back_with_a_late_answer(cache: Cache) -> None:
    cache.put(job())
    cache.put(pod(6))
    assert cache.remove(pod(7)) == {GENERAL}
    assert cache.put(pod(8)) == set()


def test_a_job_that_is_made_anew_under_its_old_name_is_another_one(cache: Cache) -> None:
    cache.put(job(1, "old", state="Succeeded"))
    assert cache.put(job(9, "new")) == {GENERAL}
    assert cache.remove(job(1, "old")) == set()
    known = cache.job(GENERAL)
    assert known is not None
    assert known.uid == "new"


def test_a_parents_news_wake_those_that_start_from_it_and_its_chatter_does_not(cache: Cache) -> None:
    cache.put(child())
    assert cache.put(job(3)) == {GENERAL, CLASSIFY}
    assert cache.put(job(4, attemptCount=1)) == {GENERAL}
    assert cache.put(job(5, state="Succeeded")) == {GENERAL, CLASSIFY}
    assert cache.remove(job(6)) == {GENERAL, CLASSIFY}


def test_of_all_that_belongs_to_a_job_only_what_is_gone_is_forgotten(cache: Cache) -> None:
    cache.put(job())
    for stored in (ray_job(), pod()):
        assert stored is not None
        cache.put(stored)
    assert cache.remove(pod()) == {GENERAL}
    assert [kept.name for kept in cache.children(job(), StoredRayJob)] == ["ptj-general-1"]
    assert cache.children(job(), StoredPod) == []


def test_a_job_that_is_gone_no_longer_waits_and_another_one_still_does(cache: Cache) -> None:
    cache.put(child())
    cache.put(replace(child(), name="summarize", uid="u3"))
    cache.remove(child())
    assert cache.put(job(3)) == {GENERAL, JobKey("team", "FinetuneJob", "summarize")}


def written(config: Json) -> Json:
    """A job as it is kept whose user has written this configuration of an architecture."""
    document = changed(PRETRAIN, {})
    document["spec"]["model"]["architecture"]["config"] = config
    stored = parse(PRETRAIN_JOBS, document | resource("general", 1, "u1"))
    assert isinstance(stored, StoredJob)
    kept: Json = json.loads(stored.document)
    return kept


def test_a_job_is_kept_as_it_was_written() -> None:
    config = {"layer_types": ["full", ["sliding"]], "rope_scaling": {"factor": 8.0, "kind": None}}
    assert written(config)["spec"] == changed(PRETRAIN, {"spec.model.architecture.config": config})["spec"]


def test_a_job_that_is_nested_too_deeply_is_kept_so_far_that_it_is_refused() -> None:
    deep: Json = {}
    for _ in range(500):
        deep = {"x": [deep]}
    with pytest.raises(problems.InvalidJobError) as refused:
        problems.parse(written(deep))
    assert refused.value.problems == ["spec.model.architecture.config: is nested too deeply; use 16 levels or fewer"]


def test_a_ray_job_with_our_labels_that_the_job_does_not_own_is_not_ours() -> None:
    assert ray_job(owner="somebody-else") is None
    assert ray_job() is not None


def test_a_complete_list_makes_forget_what_it_does_not_hold_but_nothing_that_came_after_it(cache: Cache) -> None:
    cache.put(job(1))
    cache.put(child(20))
    assert cache.retain(PRETRAIN_JOBS, [], 10) == {GENERAL, CLASSIFY}
    assert cache.retain(FINETUNE_JOBS, [], 10) == set()
    assert [known.key for known in cache.jobs()] == [CLASSIFY]


def test_why_the_head_of_a_job_has_failed_is_remembered_until_the_job_goes(cache: Cache) -> None:
    cache.put(job())
    cache.put(pod(6))
    cache.remove(pod(7, phase="Failed"))
    assert cache.failed_head(job()) is not None
    cache.remove(job(8))
    assert cache.failed_head(job()) is None


def test_of_pods_that_are_gone_only_a_head_that_has_failed_is_remembered(cache: Cache) -> None:
    cache.put(job())
    failed = pod(phase="Failed")
    for gone in (
        failed,
        replace(failed, name="worker", uid="p2", is_head=False),
        replace(pod(), name="evicted-head", uid="p3"),
    ):
        cache.put(gone)
        cache.remove(gone)
    remembered = cache.failed_head(job())
    assert remembered is not None
    assert remembered.name == failed.name


def test_a_pod_of_another_namespace_is_no_head_of_a_job_whatever_its_labels_say(cache: Cache) -> None:
    cache.put(job())
    stranger = replace(pod(phase="Failed"), namespace="other")
    cache.put(stranger)
    cache.remove(stranger)
    assert cache.failed_head(job()) is None
