"""The operator lives on the rights that the chart gives it: a job's whole life, and nothing is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster.access import kubeconfig
from e2e.cluster.control_plane import ControlPlane
from e2e.release import NAME, Release
from support.fake_kuberay import FakeKubeRay, Play
from support.job_world import World, pretrain
from support.kube_api import KubeApi
from support.operators import OperatorProcess

SYSTEM = "pretune-system"


@pytest.fixture(scope="module")
def release(plane: ControlPlane) -> Iterator[Release]:
    plane.kubectl("create", "namespace", SYSTEM)
    release = Release(SYSTEM, plane.kubeconfig, waits=False)
    yield release
    release.uninstall()


@pytest.fixture(scope="module")
def kuberay(plane: ControlPlane) -> Iterator[FakeKubeRay]:
    """Fails the first attempt of each job."""
    with FakeKubeRay(KubeApi(plane.kubeconfig), lambda _, attempt: [Play.FAILS, Play.RUNS][attempt > 1]) as kuberay:
        yield kuberay


@pytest.fixture(params=["everywhere", "in one namespace"])
def namespaces(request: pytest.FixtureRequest, namespace: str) -> list[str]:
    """What the operator is told to look after."""
    return [] if request.param == "everywhere" else [namespace]


@pytest.fixture
def operator(
    plane: ControlPlane, release: Release, kuberay: FakeKubeRay, namespaces: list[str], tmp_path: Path
) -> Iterator[OperatorProcess]:
    """The operator under the chart's ServiceAccount."""
    release.install({"crds": {"install": False}, "watchNamespaces": namespaces})
    token = plane.kubectl("create", "token", NAME, "--namespace", SYSTEM).strip()
    (tmp_path / "kubeconfig").write_text(kubeconfig(plane.server, plane.certificate, token))
    options = [f"--namespace={name}" for name in namespaces]
    with OperatorProcess(tmp_path / "operator", tmp_path / "kubeconfig", *options) as operator:
        yield operator


def test_the_chart_gives_the_operator_every_right_that_a_jobs_life_takes(
    operator: OperatorProcess, namespaces: list[str], api: KubeApi, namespace: str
) -> None:
    world, job = World(api, namespace), pretrain()
    world.apply(job)
    world.until(
        job, lambda status: status.get("attemptCount") == 2 and status["state"] == "Running", "to be tried again"
    )
    world.change(job, suspend=True)
    world.until_condition(job, "Suspended")
    assert world.events()
    assert 'code="403"' not in operator.says("/metrics")[1]
    # kopf tells of what it may not watch: of some namespaces only, the operator may not watch definitions.
    assert bool(namespaces) == ("Not enough permissions" in operator.log.read_text())
