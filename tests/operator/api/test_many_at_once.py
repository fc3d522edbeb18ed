"""Many jobs at once: what is made for each goes before what is said of it."""

from pathlib import Path

from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.process import wait_until
from pretune_operator.controller import WORKERS
from support.job_world import World, pretrain, reason
from support.kube_api import Json, KubeApi
from support.operators import OperatorProcess

JOBS = 3 * WORKERS


def test_all_have_their_ray_job_before_status_tells_of_them(
    api: KubeApi, plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    world = World(api, namespace)
    for number in range(JOBS):
        world.apply(pretrain(f"job-{number}"))
    with OperatorProcess(tmp_path, plane.kubeconfig, "--namespace", namespace):
        wait_until(lambda: all(told(job) for job in world.items("pretrainjobs", "pretune.dev/v1alpha1")), "all is told")
        wait_until(lambda: len(world.events()) == JOBS, "an event tells of each attempt")
    ray_jobs, jobs = world.ray_jobs(), world.items("pretrainjobs", "pretune.dev/v1alpha1")
    # Nobody else writes: the version of each is that of its only write.
    made, said = sorted(map(version, ray_jobs)), sorted(map(version, jobs))
    assert len(made) == len(said) == JOBS
    # The last that wait for no other are told of at once.
    assert said[0] > made[-WORKERS]
    assert {reason(job["status"], "QuotaReserved") for job in jobs} == {"NoQueue"}
    assert {event["reason"] for event in world.events()} == {"AttemptStarted"}


def told(job: Json) -> bool:
    return bool(job.get("status", {}).get("attempts"))


def version(resource: Json) -> int:
    return int(resource["metadata"]["resourceVersion"])
