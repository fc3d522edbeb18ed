"""What a preflight is made of: a Job that runs once, in a pod like a head's, and what is seen of it."""

import json
import re
from datetime import UTC, datetime
from typing import Any

from pretune_api.names import Label
from pretune_api.run_config import RunConfig
from pretune_operator.cluster.cache import Cache
from pretune_operator.cluster.kinds import BATCH_JOBS, PODS, PRETRAIN_JOBS
from pretune_operator.cluster.objects import JobKey, StoredPreflight
from pretune_operator.cluster.observe import observe
from pretune_operator.cluster.parse import parse
from pretune_operator.findings import read
from pretune_operator.job import JobView
from pretune_operator.observed import Cluster, SeenPreflight
from pretune_operator.pods import head_pod
from pretune_operator.preflight_job import preflight_job
from pretune_trainer.preflight.findings import Finding, message
from support.views import planned, settings, view

Json = dict[str, Any]

COMPUTE = {
    "image": "registry.test/mine:2",
    "imagePullSecrets": [{"name": "pull"}],
    "serviceAccountName": "trainer",
    "labels": {"azure.workload.identity/use": "true"},
    "env": [{"name": "HF_TOKEN", "secretKeyRef": {"name": "hub", "key": "token"}}],
    "gpusPerWorker": 4,
}
PROXY = {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}
HEAD = {
    "nodeSelector": {"cpu": "yes"},
    "tolerations": [{"operator": "Exists"}],
    "annotations": {"keep": "true"},
    "env": [PROXY],
}


def made(job: JobView, number: int = 1, **changes: Any) -> Json:
    return preflight_job(job, planned(job), number, settings(**changes))


def pod(found: Json) -> Json:
    template: Json = found["spec"]["template"]
    return template


def test_it_runs_once_and_outlives_neither_its_deadline_nor_an_hour() -> None:
    spec = made(view(), preflight={"deadlineSeconds": 100})["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["activeDeadlineSeconds"] == 160
    assert spec["ttlSecondsAfterFinished"] == 3600
    assert pod({"spec": spec})["spec"]["restartPolicy"] == "Never"


def test_it_belongs_to_its_job_under_a_name_that_follows_from_its_number() -> None:
    first, second = made(view(), 1)["metadata"], made(view(), 2)["metadata"]
    assert re.fullmatch(r"ptj-general-[0-9a-f]{8}-preflight-1", first["name"])
    assert second["name"] == f"{first['name'][:-1]}2"
    assert first["ownerReferences"][0]["uid"] == view().uid


def test_its_pod_is_given_all_that_a_head_is_given_and_no_more() -> None:
    job = view(compute=COMPUTE, storage__secretRef={"name": "s3"})
    ours, heads = pod(made(job, head=HEAD)), head_pod(job, 1, settings(head=HEAD), "ptj-general-1")
    assert ours["metadata"]["annotations"].items() >= heads["metadata"]["annotations"].items()
    found, head = ours["spec"], heads["spec"]
    alike = ("imagePullSecrets", "serviceAccountName", "nodeSelector", "tolerations", "securityContext")
    assert {name: found[name] for name in alike} == {name: head[name] for name in alike}
    [mine], [of_head] = found["containers"], head["containers"]
    assert {name: mine[name] for name in ("image", "resources", "securityContext")} == {
        name: of_head[name] for name in ("image", "resources", "securityContext")
    }
    drain = [variable for variable in of_head["env"] if variable["name"] == "RAY_JOB_STOP_WAIT_TIME_S"]
    assert mine["env"] == [variable for variable in of_head["env"] if variable not in drain]
    assert PROXY in mine["env"]
    assert not any("gpu" in name for name in mine["resources"]["limits"])
    assert not {"readinessProbe", "livenessProbe", "ports"} & set(mine)
    assert found["automountServiceAccountToken"] is False


def test_of_one_that_breaks_before_it_has_findings_the_end_of_its_log_is_kept() -> None:
    [container] = pod(made(view()))["spec"]["containers"]
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_its_labels_are_those_of_no_attempt() -> None:
    labels = pod(made(view(compute=COMPUTE)))["metadata"]["labels"]
    assert labels[Label.PREFLIGHT] == "1"
    assert labels["azure.workload.identity/use"] == "true"
    assert Label.ATTEMPT not in labels


def test_it_finds_the_run_config_as_a_file() -> None:
    job = view()
    template = pod(made(job))
    [container] = template["spec"]["containers"]
    [volume] = [volume for volume in template["spec"]["volumes"] if volume["name"] == "config"]
    [item] = volume["downwardAPI"]["items"]
    [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == "config"]
    assert container["command"][-1] == f"{mount['mountPath']}/{item['path']}"
    [name] = re.findall(r"metadata\.annotations\['(.*)'\]", item["fieldRef"]["fieldPath"])
    assert RunConfig.model_validate_json(template["metadata"]["annotations"][name]) == planned(job)


def described(name: str, **more: Any) -> Json:
    meta = {"namespace": "team", "name": name, "uid": name, "resourceVersion": "1"}
    labels = {"pretune.dev/uid": "a", "pretune.dev/preflight": "2"}
    created = {"creationTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": [{"uid": "a"}], "labels": labels}
    return {"metadata": meta | created} | more


def test_one_that_kueue_holds_back_is_seen_so() -> None:
    for held_back in (True, False):
        found = parse(BATCH_JOBS, described("batch", spec={"suspend": held_back}))
        assert isinstance(found, StoredPreflight)
        assert found.suspended is held_back


def seen(job_status: Json, pod_status: Json, **meta: Any) -> SeenPreflight | None:
    """What is seen of a preflight of which Kubernetes says so."""
    cache = Cache()
    made = described("batch", status=job_status)
    made["metadata"] |= meta
    job = {"metadata": {"namespace": "team", "name": "a", "uid": "a", "resourceVersion": "1"}, "spec": {}}
    for resource, raw in ((PRETRAIN_JOBS, job), (BATCH_JOBS, made), (PODS, described("pod", status=pod_status))):
        if stored := parse(resource, raw):
            cache.put(stored)
    stored_job = cache.job(JobKey("team", "PretrainJob", "a"))
    assert stored_job is not None
    observed = observe(
        stored_job, cache, Cluster(), lambda node: False, lambda *_: None, lambda cluster: False, datetime.now(UTC)
    )
    assert observed.attempts == {}
    return observed.preflights.get(2)


def test_what_its_container_has_left_is_seen() -> None:
    terminated = {"exitCode": 2, "message": "said", "reason": "Error"}
    ended = {"name": "preflight", "state": {"terminated": terminated}}
    found = seen({}, {"phase": "Failed", "containerStatuses": [ended]})
    assert found is not None
    assert found.pod is not None
    assert (found.number, found.job, found.pod.exit_code, found.pod.message) == (2, "batch", 2, "said")


def test_that_kubernetes_has_given_it_up_is_seen() -> None:
    failed = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "was active too long"}
    found = seen({"conditions": [failed | {"lastTransitionTime": "2026-01-01T00:10:00Z"}]}, {"phase": "Pending"})
    assert found is not None
    assert found.end == datetime(2026, 1, 1, 0, 10, tzinfo=UTC)
    assert found.problem == "DeadlineExceeded: was active too long"


def test_a_job_with_the_labels_of_a_preflight_that_nobody_of_ours_owns_is_none() -> None:
    assert seen({}, {}, ownerReferences=[{"uid": "b"}]) is None


def test_the_operator_understands_what_the_trainer_leaves() -> None:
    findings = [
        Finding("source", True, "it can be read", "spec.data.train[0]"),
        Finding.of("parent", "spec.model.from", ValueError("no")),
        Finding("memory", None, "not known", "spec.compute"),
    ]
    found = {each.check: each for each in read(message(findings))}
    assert {check: each.result for check, each in found.items()} == {
        "source": "Ok",
        "parent": "Wrong",
        "memory": "NotKnown",
    }
    assert (found["parent"].cause, found["parent"].sentence) == ("Unknown", "ValueError: no")
    long = [Finding("rows", False, "x" * 4_000, "y" * 4_000)]
    assert len(read(message(long))) == 1
    many = json.dumps({"findings": [findings[0].to_json()] * 100})
    assert len(read(many)) == 64
