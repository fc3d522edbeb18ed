"""Why attempts fail or do not start: one table of what follows from each cause, and where causes are read from."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from pretune_api.lifecycle import Retries
from pretune_api.names import Cause, ExitCode
from pretune_operator.conditions import Reason
from pretune_operator.observed import SeenAttempt, SeenPod


@dataclass(frozen=True)
class Handling:
    """What follows from a cause."""

    budget: str | None
    """Field of failurePolicy.retries that says how often it is tried again; causes share it. None: never."""
    advice: str
    """What to do about it once the job has failed."""


_MEND = "fix it and raise spec.retry, or create a new job if the field cannot be changed"

HANDLING: Final[dict[Cause, Handling]] = {
    Cause.USER_ERROR: Handling(None, _MEND),
    Cause.STORAGE_DENIED: Handling(
        None, "check the credentials in secretRef and their permissions, and raise spec.retry"
    ),
    Cause.NUMERICAL_ERROR: Handling(
        None, "create a new job with a lower training.learningRate or a different training.instability"
    ),
    Cause.DEADLINE_EXCEEDED: Handling(
        None, "raise spec.activeDeadlineSeconds and spec.retry to resume from the last commit"
    ),
    Cause.IMAGE_PULL: Handling(
        None,
        "check spec.compute.image and imagePullSecrets, and raise spec.retry; a job that sets no image then changes to"
        " the one that the operator is configured with now",
    ),
    Cause.QUOTA: Handling(None, "request less in spec.compute or increase the quota, and raise spec.retry"),
    Cause.UNSCHEDULABLE: Handling(None, "request less or another pool in spec.compute, and raise spec.retry"),
    Cause.OUT_OF_MEMORY: Handling(
        "out_of_memory",
        "do what the message says, or give workers more memory in spec.compute.resources, and raise spec.retry",
    ),
    Cause.UNKNOWN: Handling("unknown", "read the logs, and raise spec.retry to try again"),
    Cause.NODE_LOST: Handling("interrupted", "raise spec.retry to try again"),
    Cause.PREEMPTED: Handling("interrupted", "raise spec.retry to try again"),
    Cause.NETWORK: Handling("interrupted", "check the network between the pods, and raise spec.retry"),
    Cause.STORAGE_UNAVAILABLE: Handling("interrupted", "check that the store responds, and raise spec.retry"),
    Cause.HEAD_LOST: Handling("interrupted", "raise spec.retry to try again"),
}

_NO_IMAGE: Final = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
"""Reasons for which the kubelet has no image to start."""

_CLAIMS: Final = re.compile(r'persistentvolumeclaim "|unbound immediate PersistentVolumeClaims')
"""What schedulers say of a claim that does not exist, is being deleted, or has no volume."""

_DENIED: Final = re.compile(r"is forbidden: (?!User )|is invalid: |denied the request")
"""What the API server says of pods that it, or a webhook, will refuse again, as Pod Security does, or a LimitRange.
What KubeRay itself may not do is no fault of the job's."""

_WORKERS_MEMORY: Final = "spec.compute.resources.memory"
_HEADS_MEMORY: Final = "settings.head.resources.memory of the chart"
"""Who gives a pod its memory: a head's is no job's to say."""

_CAUSE_OF_REASON: Final = {
    "ValidationFailed": Cause.USER_ERROR,
    "DeadlineExceeded": Cause.DEADLINE_EXCEEDED,
}
"""Reasons of KubeRay's that name a cause."""


@dataclass(frozen=True)
class Obstacle:
    """Why pods of an attempt do not run."""

    cause: Cause
    """What the attempt fails with if it lasts."""
    reason: str
    """One CamelCase word."""
    message: str


def budget_of(cause: Cause, retries: Retries) -> int:
    """How many failures of this cause, and of those that share its budget, are followed by another attempt."""
    field = HANDLING[cause].budget
    return getattr(retries, field) if field else 0


def sharing(cause: Cause) -> set[Cause]:
    """The causes that share a budget with `cause`, itself among them."""
    return {other for other, handling in HANDLING.items() if handling.budget == HANDLING[cause].budget}


def cause_of(attempt: SeenAttempt) -> tuple[Cause, str]:
    """Why an attempt that is over failed, and a sentence: the driver's word first, then the pods', then KubeRay's."""
    ending = attempt.ending
    if ending is not None and ending.cause in set(Cause) - {Cause.UNKNOWN}:
        return Cause(ending.cause), ending.message
    if ending is not None and ending.exit_code == ExitCode.STOPPED:
        return Cause.PREEMPTED, f"its pods were asked to terminate, such as by a node drain: {ending.message}"
    if attempt.reason in _CAUSE_OF_REASON:
        return _CAUSE_OF_REASON[attempt.reason], f"KubeRay reports {attempt.reason}: {attempt.message}"
    if attempt.reason == "PreRunningDeadlineExceeded":
        return unstarted(attempt)
    found = next(_signs_of_pods(attempt), None)
    if found is not None:
        return found
    return Cause.UNKNOWN, ending.message if ending else _unexplained(attempt)


def unstarted(attempt: SeenAttempt) -> tuple[Cause, str]:
    """Why an attempt failed whose pods did not all run in time."""
    obstacle = obstacle_of(attempt)
    if obstacle is None:
        why = held_up(attempt.pods)
        said = "its pods did not all run within failurePolicy.startDeadlineSeconds"
        return Cause.UNKNOWN, f"{said}: {why}" if why else f"{said}, for no known reason"
    return obstacle.cause, obstacle.message


def held_up(pods: Iterable[SeenPod]) -> str | None:
    """Where to look for what no pod's status tells, such as a volume that a node cannot mount."""
    pod = next((pod for pod in pods if pod.phase == "Pending" and pod.node), None)
    if pod is None:
        return None
    events = f"kubectl get events --field-selector involvedObject.name={pod.name}"
    return f"{pod.name} was still starting on node {pod.node}; its events may say why, such as FailedMount: {events}"


def lost_head(attempt: SeenAttempt) -> tuple[Cause, str]:
    """Why an attempt failed whose head is gone, which KubeRay does not notice."""
    found = _sign_of(attempt.head, _HEADS_MEMORY) if attempt.head else None
    return found or (Cause.HEAD_LOST, "the Ray head pod is gone, and the driver with it")


def unheard(attempt: SeenAttempt) -> tuple[Cause, str]:
    """Why an attempt failed whose pods run, but whose head was never seen at work."""
    if attempt.head_is_gone:
        return lost_head(attempt)
    said = f"KubeRay cannot submit {attempt.ray_job} to its head pod; check that KubeRay's pod can reach port 8265"
    return Cause.UNKNOWN, said


def obstacle_of(attempt: SeenAttempt) -> Obstacle | None:
    """Why pods of an attempt do not run yet: what a person can mend first, then what the cluster lacks."""
    found = list(_obstacles(attempt))
    order = [Cause.IMAGE_PULL, Cause.USER_ERROR, Cause.QUOTA, Cause.OUT_OF_MEMORY, Cause.UNKNOWN, Cause.UNSCHEDULABLE]
    return min(found, key=lambda obstacle: order.index(obstacle.cause), default=None)


def _obstacles(attempt: SeenAttempt) -> Iterator[Obstacle]:
    if not attempt.deployment_status:
        said = f"KubeRay has not picked up {attempt.ray_job}; check that its operator runs and watches this namespace"
        yield Obstacle(Cause.UNKNOWN, Reason.KUBERAY_UNAVAILABLE, said)
    if attempt.cluster_problem and "exceeded quota" in attempt.cluster_problem:
        yield Obstacle(Cause.QUOTA, Cause.QUOTA, attempt.cluster_problem)
    elif attempt.cluster_problem:
        denied = _DENIED.search(attempt.cluster_problem)
        yield Obstacle(Cause.USER_ERROR if denied else Cause.UNKNOWN, "PodsRefused", attempt.cluster_problem)
    for pod in attempt.pods:
        yield from obstacles_of(pod)


def obstacles_of(pod: SeenPod) -> Iterator[Obstacle]:
    """Why a pod does not run yet; nothing where it does, or needs no more than a moment."""
    if pod.phase == "Pending" and pod.unschedulable:
        yield _unscheduled(pod, pod.unschedulable)
    elif pod.waiting_reason:
        yield from _waiting(pod, pod.waiting_reason)


def _unscheduled(pod: SeenPod, why: str) -> Obstacle:
    said = f"{pod.name} cannot be scheduled: {why}"
    if _CLAIMS.search(why):
        advice = "spec.compute.volumes: every claim must exist in the job's namespace and be bound to a volume"
        return Obstacle(Cause.USER_ERROR, "ClaimNotReady", f"{advice}; {said}")
    return Obstacle(Cause.UNSCHEDULABLE, Cause.UNSCHEDULABLE, said)


def _waiting(pod: SeenPod, reason: str) -> Iterator[Obstacle]:
    said = f"{pod.name} is waiting: {reason}: {pod.waiting_message or 'the kubelet gives no details'}"
    if reason in _NO_IMAGE:
        yield Obstacle(Cause.IMAGE_PULL, Cause.IMAGE_PULL, said)
    elif reason == "CreateContainerConfigError":
        yield Obstacle(Cause.USER_ERROR, reason, said)
    elif pod.terminated_reason == "OOMKilled":
        yield Obstacle(Cause.OUT_OF_MEMORY, Cause.OUT_OF_MEMORY, _out_of_memory(pod, _WORKERS_MEMORY))
    elif reason in ("CrashLoopBackOff", "CreateContainerError", "RunContainerError"):
        yield Obstacle(Cause.UNKNOWN, reason, said)


def _signs_of_pods(attempt: SeenAttempt) -> Iterator[tuple[Cause, str]]:
    for pod in attempt.pods:
        found = _sign_of(pod, _HEADS_MEMORY if pod is attempt.head else _WORKERS_MEMORY)
        if found is not None:
            yield found


def _sign_of(pod: SeenPod, memory: str) -> tuple[Cause, str] | None:
    """Why a pod ended, if it tells; `memory` is the field to raise if that was too little."""
    if pod.node_lost or pod.disruption == "DeletionByPodGC":
        where = f"node {pod.node} with {pod.name}" if pod.node else f"the node of {pod.name}"
        return Cause.NODE_LOST, f"{where} is lost"
    if pod.disruption:
        return Cause.PREEMPTED, f"{pod.name} had to leave its node: {pod.disruption}"
    if pod.terminated_reason == "OOMKilled":
        return Cause.OUT_OF_MEMORY, _out_of_memory(pod, memory)
    return None


def _out_of_memory(pod: SeenPod, memory: str) -> str:
    return f"host: {pod.name} exceeded its memory limit and was killed; raise {memory}"


def _unexplained(attempt: SeenAttempt) -> str:
    if attempt.has_succeeded:
        return "the driver succeeded, but its head pod did not report the artifact; another attempt will find it"
    said = attempt.message.strip().splitlines()
    return f"Ray reports {attempt.job_status or attempt.deployment_status}: {said[-1] if said else 'no details'}"
