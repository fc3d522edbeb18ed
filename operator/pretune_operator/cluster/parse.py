"""From a resource's JSON to what is kept of it."""

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import to_json

from pretune_api.model import DEEPEST_CONFIG
from pretune_api.names import Label
from pretune_api.status import Artifact
from pretune_operator.cluster.kinds import BATCH_JOBS, JOBS, PODS, RAY_CLUSTERS, RAY_JOBS, Resource
from pretune_operator.cluster.objects import (
    Child,
    StoredJob,
    StoredPod,
    StoredPreflight,
    StoredRayCluster,
    StoredRayJob,
)
from pretune_operator.naming import OUR_CONTAINERS
from pretune_operator.observed import ParentState, SeenPod

Json = dict[str, Any]

_WAITS: Final = {"ContainerCreating", "PodInitializing"}
"""Why every container waits for a moment."""
_READ_OF_HEADS: Final = {"progress", "metrics"}
"""Fields of a status that operators copy from what a head says."""
_PARENTS: Final = {"pretrainJob": "PretrainJob", "finetuneJob": "FinetuneJob"}

log = logging.getLogger(__name__)


def parse(resource: Resource, raw: Json) -> StoredJob | Child | None:
    """What is kept of a resource; None if it belongs to no job, or cannot be one of ours."""
    if resource in JOBS.values():
        return _job(resource, raw)
    try:
        return _PARSERS[resource](raw, found) if (found := _child(resource, raw)) else None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # Whoever may write in a namespace may give our labels to anything, and must not end the operator by it.
        log.warning("%s %s is not understood: %r", resource.kind, raw["metadata"].get("name"), error)
        return None


def _common(raw: Json) -> Json:
    meta = raw["metadata"]
    return {
        "namespace": meta["namespace"],
        "name": meta["name"],
        "uid": meta["uid"],
        "version": int(meta["resourceVersion"]),
        "deleting": "deletionTimestamp" in meta,
    }


def _job(resource: Resource, raw: Json) -> StoredJob:
    meta, spec, status = raw["metadata"], _spec(raw), raw.get("status") or {}
    wanted = {"apiVersion": raw.get("apiVersion"), "kind": resource.kind, "metadata": {"name": meta["name"]}}
    state = status.get("state", "Pending")
    return StoredJob(
        **_common(raw),
        kind=resource.kind,
        generation=meta.get("generation", 0),
        labels=meta.get("labels") or {},
        parents=tuple(_parents(spec)),
        shown=state,
        state={"Succeeded": ParentState.SUCCEEDED, "Failed": ParentState.FAILED}.get(state, ParentState.RUNNING),
        artifact=_artifact(status.get("artifact")),
        document=to_json(wanted | {"spec": spec}),
        status=to_json(status),
        judged=hash(to_json({name: said for name, said in status.items() if name not in _READ_OF_HEADS})),
    )


def _spec(raw: Json) -> Json:
    """The spec, cut off where it is nested so deeply that it is invalid, and cannot be kept as JSON either: the API
    server bounds all fields but those of an architecture."""
    spec = raw.get("spec") or {}
    model = spec.get("model") or {}
    architecture = model.get("architecture") or {}
    if not (config := architecture.get("config")):
        return spec
    return spec | {"model": model | {"architecture": architecture | {"config": _cut(config, DEEPEST_CONFIG + 1)}}}


def _cut(value: Any, levels: int) -> Any:
    if levels == 0 or not isinstance(value, dict | list):
        return None if isinstance(value, dict | list) else value
    if isinstance(value, list):
        return [_cut(item, levels - 1) for item in value]
    return {name: _cut(item, levels - 1) for name, item in value.items()}


def _parents(spec: Json) -> Iterator[str]:
    """The jobs that a spec refers to, however wrong the rest of it is."""
    for part in ("model", "tokenizer"):
        source = (spec.get(part) or {}).get("from") or {}
        yield from (f"{kind}/{source[field]}" for field, kind in _PARENTS.items() if source.get(field))


def _artifact(raw: Json | None) -> Artifact | None:
    try:
        return Artifact.model_validate(raw, extra="ignore") if raw else None  # of a newer version, before a rollback
    except ValidationError:
        return None


def _child(resource: Resource, raw: Json) -> Json | None:
    """What all children have in common. What we make is ours if a job owns it; labels alone can be anybody's."""
    meta = raw["metadata"]
    labels = meta.get("labels") or {}
    attempt, preflight = _number(labels, Label.ATTEMPT), _number(labels, Label.PREFLIGHT)
    owners = {owner["uid"] for owner in meta.get("ownerReferences") or ()}
    uid = labels.get(Label.UID)
    if not uid or not (attempt or preflight) or (resource in (RAY_JOBS, BATCH_JOBS) and uid not in owners):
        return None
    return {
        **_common(raw),
        "job": uid,
        "attempt": attempt,
        "preflight": preflight,
        "created": datetime.fromisoformat(meta["creationTimestamp"]),
    }


def _number(labels: Json, label: Label) -> int:
    value = labels.get(label, "")
    return int(value) if value.isdecimal() else 0


def _ray_job(raw: Json, common: Json) -> StoredRayJob:
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    cluster = spec.get("rayClusterSpec") or {}
    groups = cluster.get("workerGroupSpecs") or []
    return StoredRayJob(
        **common,
        suspended=bool(spec.get("suspend")),
        deployment_status=status.get("jobDeploymentStatus", ""),
        job_status=status.get("jobStatus", ""),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        taken_up=_moment(status.get("startTime")),
        end=_moment(status.get("endTime")),
        ray_cluster=status.get("rayClusterName") or None,
        gpus=sum(group.get("replicas", 1) * _gpus(group) for group in groups),
        image=_image((cluster.get("headGroupSpec") or {}).get("template") or {}),
    )


def _gpus(group: Json) -> int:
    """GPUs of a worker, as its Ray is told; extended resources of its container may be others, too."""
    return int((group.get("rayStartParams") or {}).get("num-gpus", 0))


def _image(template: Json) -> str | None:
    """Image of the first container, which is ours."""
    containers = (template.get("spec") or {}).get("containers") or [{}]
    image: str | None = containers[0].get("image")
    return image


def _ray_cluster(raw: Json, common: Json) -> StoredRayCluster:
    failed = _condition(raw, "ReplicaFailure")
    return StoredRayCluster(
        **common,
        problem=failed.get("message") or None if failed.get("status") == "True" else None,
        orphaned=not raw["metadata"].get("ownerReferences"),
    )


def _preflight(raw: Json, common: Json) -> StoredPreflight:
    failed, complete = _condition(raw, "Failed"), _condition(raw, "Complete")
    ended = next((said for said in (failed, complete) if said.get("status") == "True"), None)
    return StoredPreflight(
        **common,
        end=_moment(ended["lastTransitionTime"]) if ended else None,
        problem=f"{failed.get('reason')}: {failed.get('message')}" if failed.get("status") == "True" else None,
        suspended=bool((raw.get("spec") or {}).get("suspend")),
    )


def _pod(raw: Json, common: Json) -> StoredPod:
    labels = raw["metadata"]["labels"]
    return StoredPod(
        **common,
        ray_cluster=labels.get("ray.io/cluster", ""),
        is_head=labels.get("ray.io/node-type") == "head",
        seen=_seen(raw),
        leaves_by=_moment(raw["metadata"].get("deletionTimestamp")),  # the grace period is in it
        doubted=_doubted(raw),
    )


def _seen(raw: Json) -> SeenPod:
    """What is kept of a pod; how it ended is for our container to say, and not for what others have put beside it."""
    status = raw.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    waiting = next(_waiting(containers), {})
    ended = next(_ended(container for container in containers if container.get("name") in OUR_CONTAINERS), {})
    scheduled, disruption = _condition(raw, "PodScheduled"), _condition(raw, "DisruptionTarget")
    return SeenPod(
        name=raw["metadata"]["name"],
        phase=status.get("phase", "Unknown"),
        ready=_condition(raw, "Ready").get("status") == "True",
        deleting="deletionTimestamp" in raw["metadata"],
        node=(raw.get("spec") or {}).get("nodeName"),
        ip=status.get("podIP"),
        unschedulable=scheduled.get("message") if scheduled.get("reason") == "Unschedulable" else None,
        waiting_reason=waiting.get("reason"),
        waiting_message=waiting.get("message"),
        terminated_reason=ended.get("reason"),
        exit_code=ended.get("exitCode"),
        message=ended.get("message"),
        # A kubelet that evicts says so in the pod's reason; older ones set no condition.
        disruption=disruption.get("reason") or (status.get("reason") if status.get("phase") == "Failed" else None),
    )


def _doubted(raw: Json) -> datetime | None:
    ready, contained = _condition(raw, "Ready"), _condition(raw, "ContainersReady")
    doubtful = contained.get("status") == "True" and ready.get("status") != "True"
    return _moment(ready.get("lastTransitionTime")) if doubtful else None


def _waiting(containers: Iterable[Json]) -> Iterator[Json]:
    """Why containers wait, if it is for more than their turn, and how those ended that wait to be started again."""
    for container in containers:
        state = (container.get("state") or {}).get("waiting")
        if state and state.get("reason") not in _WAITS:
            ended = next(_ended([container]), None)
            how = f" (it ended before: {ended.get('reason')}, exit code {ended.get('exitCode')})" if ended else ""
            yield state | {"message": f"{state['message']}{how}"} if state.get("message") else state


def _ended(containers: Iterable[Json]) -> Iterator[Json]:
    """How containers ended: now, or before their last restart; failures first."""
    states = [(container.get("state") or {}, container.get("lastState") or {}) for container in containers]
    ends = [end for pair in states for state in pair if (end := state.get("terminated"))]
    return iter(sorted(ends, key=lambda end: end.get("exitCode") == 0))


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _condition(raw: Json, kind: str) -> Json:
    conditions: list[Json] = (raw.get("status") or {}).get("conditions") or []
    return next((condition for condition in conditions if condition.get("type") == kind), {})


_PARSERS: Final = {RAY_JOBS: _ray_job, RAY_CLUSTERS: _ray_cluster, BATCH_JOBS: _preflight, PODS: _pod}
