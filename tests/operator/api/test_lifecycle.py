"""The operator on a real API server, beside a KubeRay that runs nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.process import wait_until
from support.fake_kuberay import DIGEST, FakeKubeRay, Play
from support.kube_api import KubeApi
from support.operators import OperatorProcess

from support.job_world import World, condition, finetune, pretrain, reason


@pytest.fixture(scope="module")
def kuberay(api: KubeApi) -> Iterator[FakeKubeRay]:
    with FakeKubeRay(api) as kuberay:
        yield kuberay


@pytest.fixture(scope="module")
def operator(
    plane: ControlPlane, kuberay: FakeKubeRay, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    with OperatorProcess(tmp_path_factory.mktemp("operator"), plane.kubeconfig) as operator:
        yield operator


@pytest.fixture
def world(api: KubeApi, namespace: str, operator: OperatorProcess) -> World:
    return World(api, namespace)


def test_a_job_becomes_a_ray_job_and_its_artifact_is_published(world: World) -> None:
    job = pretrain()
    world.apply(job)
    status = world.until_condition(job, "Finished")["status"]
    assert status["state"] == "Succeeded"
    assert status["artifact"] == {"uri": "s3://models/general/artifact/0001", "digest": DIGEST}
    assert [attempt["number"] for attempt in status["attempts"]] == [1]
    assert status["metrics"] == {"loss": 2.25}
