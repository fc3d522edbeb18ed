"""An operator of some namespaces, one of which it may not list: its Role was deleted, as it is with the namespace."""

from pathlib import Path

from e2e.cluster.control_plane import ControlPlane
from support.chart_rights import grant, kubeconfig_of, make_system
from support.fake_kuberay import FakeKubeRay, Play
from support.job_world import World, pretrain
from support.kube_api import KubeApi
from support.operators import OperatorProcess


def test_a_namespace_that_refuses_holds_up_no_other_and_is_taken_up_once_it_does_not(
    plane: ControlPlane, api: KubeApi, tmp_path: Path
) -> None:
    make_system(api)
    here, there = (
        World(api, api.create("/api/v1/namespaces", {"metadata": {"generateName": "test-"}})["metadata"]["name"])
        for _ in range(2)
    )
    grant(plane, "few", here.namespace)
    kubeconfig, job = kubeconfig_of(plane, "few-pretune", tmp_path), pretrain()
    places = ["--namespace", here.namespace, "--namespace", there.namespace]
    with (
        FakeKubeRay(KubeApi(plane.kubeconfig), lambda job, attempt: Play.SUCCEEDS),
        OperatorProcess(tmp_path / "operator", kubeconfig, *places) as operator,
    ):
        for world in (here, there):
            world.apply(job)
        here.until_condition(job, "Finished")
        assert there.ray_jobs() == []
        grant(plane, "few", here.namespace, there.namespace)
        there.until_condition(job, "Finished", seconds=180)
        assert operator.says("/healthz") == (200, "ok\n")
