"""An operator that is replaced by one with other settings, while jobs train."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster.control_plane import ControlPlane
from support.fake_kuberay import FakeKubeRay, Play
from support.job_world import Json, World, pretrain
from support.kube_api import KubeApi
from support.operators import SETTINGS, OperatorProcess


@pytest.fixture
def kuberay(plane: ControlPlane) -> Iterator[FakeKubeRay]:
    with FakeKubeRay(KubeApi(plane.kubeconfig), lambda job, attempt: Play.RUNS) as kuberay:
        yield kuberay


def settings(image: str) -> str:
    return SETTINGS.replace("pretune.test/pretrain:1", image)


def test_a_job_goes_on_with_the_image_that_it_began_with_until_retry_is_raised(
    plane: ControlPlane, api: KubeApi, namespace: str, kuberay: FakeKubeRay, tmp_path: Path
) -> None:
    world, job = World(api, namespace), pretrain()
    with OperatorProcess(tmp_path / "old", plane.kubeconfig, configured=settings("pretune.test/pretrain:1")):
        world.apply(job)
        trains(world, job, 1)
    with OperatorProcess(tmp_path / "new", plane.kubeconfig, configured=settings("pretune.test/pretrain:2")):
        loses_its_head(world, 1)
        trains(world, job, 2)
        world.change(job, retry=1)
        loses_its_head(world, 2)
        status = trains(world, job, 3)
    assert [attempt["image"] for attempt in status["attempts"]] == [
        "pretune.test/pretrain:1",
        "pretune.test/pretrain:1",
        "pretune.test/pretrain:2",
    ]


def trains(world: World, job: Json, attempt: int) -> Json:
    """Status, once that attempt has had a run."""
    found = world.until(job, lambda said: runs(said) == (attempt, True), f"attempt {attempt} trains")
    status: Json = found["status"]
    return status


def runs(status: Json) -> tuple[int, bool]:
    """The last attempt, and whether it has had a run."""
    attempts = status.get("attempts") or [{"number": 0}]
    return attempts[-1]["number"], attempts[-1].get("runs", 0) > 0


def loses_its_head(world: World, attempt: int) -> None:
    selected = f"ray.io/node-type=head,pretune.dev/attempt={attempt}"
    (head,) = world.api.items(f"{world.pods}?labelSelector={selected}")
    world.api.delete(f"{world.pods}/{head['metadata']['name']}", gracePeriodSeconds=0)
