"""A job that is nested as deeply as the API server lets one be: whoever may write a job may write that."""

import json
from pathlib import Path

from e2e.cluster.control_plane import ControlPlane
from support.fake_kuberay import FakeKubeRay, Play
from support.job_world import World, condition, pretrain
from support.kube_api import KubeApi
from support.operators import OperatorProcess
from support.specs import changed

LEVELS = 9_000


def post(world: World, name: str) -> None:
    """Makes the job; Python writes no JSON of so many levels."""
    job = changed(pretrain(name), {"spec.model.architecture.config": {"x": "HERE"}})
    body = json.dumps(job).replace('"HERE"', '{"x":' * LEVELS + "1" + "}" * LEVELS)
    path = world.path(job).rpartition("/")[0]
    headers = world.api._headers | {"Content-Type": "application/json"}
    assert world.api._pool.request("POST", world.api.server + path, body=body, headers=headers).status == 201


def test_it_holds_up_no_other_job_before_and_after_a_restart(plane: ControlPlane, api: KubeApi, tmp_path: Path) -> None:
    theirs, ours = (
        World(api, api.create("/api/v1/namespaces", {"metadata": {"generateName": "test-"}})["metadata"]["name"])
        for _ in range(2)
    )
    with FakeKubeRay(KubeApi(plane.kubeconfig), lambda job, attempt: Play.SUCCEEDS):
        for number, job in enumerate((pretrain("first"), pretrain("second"))):
            with OperatorProcess(tmp_path / str(number), plane.kubeconfig) as operator:
                if number == 0:
                    post(theirs, "deep")
                ours.apply(job)
                assert condition(ours.until_condition(job, "Finished")["status"], "Succeeded") == "True"
                assert operator.says("/healthz") == (200, "ok\n")
