"""The operator with no more rights than the chart gives it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster.control_plane import ControlPlane
from support.chart_rights import grant, kubeconfig_of, make_system
from support.fake_jobs import FakeJobs
from support.fake_kuberay import FakeKubeRay, Play
from support.job_world import World, pretrain
from support.kube_api import KubeApi, RefusedError
from support.operators import OperatorProcess


@pytest.fixture(scope="module")
def kubeconfig(plane: ControlPlane, api: KubeApi, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of the chart's service account, with the roles that the chart binds to it."""
    make_system(api)
    grant(plane, "pretune")
    return kubeconfig_of(plane, "pretune", tmp_path_factory.mktemp("rights"))


@pytest.fixture(scope="module")
def operator(
    plane: ControlPlane, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    def plays(job: str, attempt: int) -> Play:
        return Play.FAILS if attempt == 1 else Play.SUCCEEDS

    with (
        FakeKubeRay(KubeApi(plane.kubeconfig), plays),
        FakeJobs(KubeApi(plane.kubeconfig)),
        OperatorProcess(tmp_path_factory.mktemp("operator"), kubeconfig) as operator,
    ):
        yield operator


def test_the_charts_rights_are_enough_for_a_job_that_is_tried_fails_is_suspended_and_succeeds(
    api: KubeApi, namespace: str, operator: OperatorProcess
) -> None:
    world, job = World(api, namespace), pretrain(suspend=True, preflight=True)
    world.apply(job)
    world.until_condition(job, "Suspended")
    world.change(job, suspend=False)
    assert world.until_condition(job, "Finished")["status"]["state"] == "Succeeded"
    calls = [
        line
        for line in operator.says("/metrics")[1].splitlines()
        if line.startswith("pretune_operator_api_calls_total")
    ]
    assert calls
    assert not [line for line in calls if 'code="403"' in line or 'code="401"' in line]
    assert operator.says("/healthz") == (200, "ok\n")


@pytest.mark.parametrize("path", ["secrets", "namespaces/default/secrets", "namespaces/default/secrets/s3"])
def test_no_secret_can_be_read(kubeconfig: Path, path: str) -> None:
    with pytest.raises(RefusedError) as refused:
        KubeApi(kubeconfig).get(f"/api/v1/{path}")
    assert refused.value.code == 403
