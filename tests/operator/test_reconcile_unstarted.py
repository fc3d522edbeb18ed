"""Pods that do not start: what keeps them is told meanwhile, and why the attempt failed after its time to start."""

from dataclasses import replace
from typing import Any

import pytest

from pretune_operator.observed import SeenAttempt, SeenPod
from support.scene import BEGIN, HEAD, WORKER, Scene, attempt

QUEUE = {"kueue.x-k8s.io/queue-name": "team"}

_NO_PREEMPTION = " preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
"""How the scheduler of Kubernetes 1.34 ends what it says of claims."""


def pending(**fields: Any) -> SeenAttempt:
    """An attempt whose worker is not there yet."""
    return attempt(head=HEAD, workers=(replace(WORKER, phase="Pending", ready=False, **{"node": None, **fields}),))


@pytest.mark.parametrize(
    ("seen", "why", "cause", "says"),
    [
        (
            pending(waiting_reason="ImagePullBackOff", waiting_message="not found"),
            "ImagePull",
            "ImagePull",
            "not found",
        ),
        (pending(waiting_reason="ErrImageNeverPull"), "ImagePull", "ImagePull", "ErrImageNeverPull"),
        (pending(unschedulable="0/3 nodes have a100"), "Unschedulable", "Unschedulable", "0/3 nodes have a100"),
        *(
            (
                pending(unschedulable=f"0/3 nodes are available: {said}{_NO_PREEMPTION}"),
                "ClaimNotReady",
                "UserError",
                said,
            )
            for said in (
                'persistentvolumeclaim "corpora" not found.',
                'persistentvolumeclaim "corpora" is being deleted.',
                'persistentvolumeclaim "corpora" bound to non-existent persistentvolume "nfs-1".',
                "pod has unbound immediate PersistentVolumeClaims.",
            )
        ),
        (attempt(cluster_problem="exceeded quota: gpus"), "Quota", "Quota", "exceeded quota: gpus"),
        *(
            (attempt(cluster_problem=f"failed to create head pod\n{said}"), "PodsRefused", cause, said)
            for said, cause in (
                ('pods "head" is forbidden: violates PodSecurity "restricted:latest": privileged', "UserError"),
                ('pods "head" is forbidden: error looking up service account team/trainer: not found', "UserError"),
                ('Pod "head" is invalid: spec.containers[0].image: Required value', "UserError"),
                ('admission webhook "validate.kyverno.svc" denied the request: no owner', "UserError"),
                ('pods is forbidden: User "system:serviceaccount:kuberay:operator" cannot create', "Unknown"),
                ('Internal error occurred: failed calling webhook "validate.kyverno.svc": EOF', "Unknown"),
            )
        ),
        (
            pending(waiting_reason="CreateContainerConfigError", waiting_message='secret "s3" not found'),
            "CreateContainerConfigError",
            "UserError",
            'secret "s3" not found',
        ),
        (
            pending(waiting_reason="CrashLoopBackOff", terminated_reason="OOMKilled"),
            "OutOfMemory",
            "OutOfMemory",
            "host:",
        ),
        (
            pending(waiting_reason="CrashLoopBackOff", waiting_message="back-off 40s"),
            "CrashLoopBackOff",
            "Unknown",
            "worker is waiting: CrashLoopBackOff: back-off 40s",
        ),
        (
            pending(waiting_reason="RunContainerError"),
            "RunContainerError",
            "Unknown",
            "RunContainerError: the kubelet gives no details",
        ),
    ],
)
def test_pods_that_do_not_start_say_why_and_fail_with_it_at_the_deadline(
    seen: SeenAttempt, why: str, cause: str, says: str
) -> None:
    scene = Scene(failurePolicy__startDeadlineSeconds=600)
    scene.settle()
    scene.sees(seen).settle()
    assert scene.says("Running") == ("False", why)
    assert says in scene.condition("Running").message
    assert scene.status.state == "Starting"
    assert scene.told()[-1] == why
    assert scene.again is not None
    scene.after(scene.again.total_seconds()).settle()
    assert scene.last.cause == cause
    assert says in str(scene.last.message)
    assert scene.status.state == ("Waiting" if cause in ("Unknown", "OutOfMemory") else "Failed")


def test_a_claim_that_is_not_there_is_told_with_the_field_that_names_it() -> None:
    scene = Scene()
    scene.settle()
    said = f'0/3 nodes are available: persistentvolumeclaim "corpora" not found.{_NO_PREEMPTION}'
    scene.sees(pending(unschedulable=said)).settle()
    assert scene.condition("Running").message == (
        "spec.compute.volumes: every claim must exist in the job's namespace and be bound to a volume;"
        f" worker cannot be scheduled: {said}"
    )


def test_a_pod_that_waits_for_what_is_no_failure_is_starting() -> None:
    scene = Scene()
    scene.settle()
    scene.sees(pending(waiting_reason="SomethingNew")).settle()
    assert scene.says("Running") == ("False", "Starting")


def test_of_several_obstacles_the_one_that_a_person_can_mend_is_told() -> None:
    full = replace(WORKER, phase="Pending", ready=False, node=None, unschedulable="0/3 nodes are available")
    broken_image = replace(WORKER, phase="Pending", ready=False, waiting_reason="ImagePullBackOff")
    scene = Scene()
    scene.settle()
    for workers in ((full, broken_image), (broken_image, full)):
        scene.sees(attempt(head=HEAD, workers=workers)).settle()
        assert scene.says("Running") == ("False", "ImagePull")


def test_kuberays_own_start_deadline_fails_with_what_was_last_said() -> None:
    scene = Scene()
    scene.settle()
    scene.sees(pending(waiting_reason="ErrImagePull")).settle()
    scene.sees(attempt(deployment_status="Failed", reason="PreRunningDeadlineExceeded")).settle()
    assert scene.says("Failed") == ("True", "ImagePull")
    assert "raise spec.retry" in scene.condition("Failed").message


@pytest.mark.parametrize(
    ("head", "cause", "says"),
    [
        (None, "Unknown", "its pods did not all run within failurePolicy.startDeadlineSeconds, for no known reason"),
        (replace(HEAD, phase="Pending", waiting_reason="ErrImagePull"), "ImagePull", "head is waiting: ErrImagePull: "),
        (
            replace(HEAD, phase="Pending", node="node-7"),
            "Unknown",
            (
                "its pods did not all run within failurePolicy.startDeadlineSeconds: head was still starting on node"
                " node-7; its events may say why, such as FailedMount: kubectl get events --field-selector"
                " involvedObject.name=head"
            ),
        ),
    ],
)
def test_kuberays_own_start_deadline_fails_with_what_is_seen_by_then(
    head: SeenPod | None, cause: str, says: str
) -> None:
    scene = Scene()
    scene.settle()
    scene.sees(attempt(deployment_status="Failed", reason="PreRunningDeadlineExceeded", head=head)).settle()
    assert scene.last.cause == cause
    assert str(scene.last.message).startswith(says)


def test_what_is_seen_at_kuberays_own_start_deadline_counts_more_than_what_was_said_before() -> None:
    scene = Scene()
    scene.settle()
    scene.sees(pending(unschedulable="0/3 nodes are available")).settle()
    late = replace(WORKER, phase="Pending", ready=False, waiting_reason="ErrImagePull")
    scene.sees(attempt(deployment_status="Failed", reason="PreRunningDeadlineExceeded", workers=(late,))).settle()
    assert scene.last.cause == "ImagePull"


def test_waiting_for_quota_does_not_count_towards_the_start_deadline() -> None:
    scene = Scene(labels=QUEUE, failurePolicy__startDeadlineSeconds=600)
    scene.settle()
    scene.sees(attempt(suspended=True)).after(6000).settle()
    scene.sees(attempt(taken_up=BEGIN)).settle()
    scene.after(600).settle()
    assert scene.last.completion_time is None
    scene.after(31).settle()
    assert scene.last.cause == "Unknown"
