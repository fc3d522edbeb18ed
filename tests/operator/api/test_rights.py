"""The operator with no more rights than the chart gives it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster.binaries import programs, version
from e2e.cluster.control_plane import ControlPlane
from support.fake_jobs import FakeJobs
from support.fake_kuberay import FakeKubeRay, Play
from support.job_world import World, pretrain
from support.kube_api import KubeApi, RefusedError
from support.operators import OperatorProcess

CHART = Path(__file__).parents[3] / "charts" / "pretune"


@pytest.fixture(scope="module")
def kubeconfig(plane: ControlPlane, api: KubeApi, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of the chart's service account, with the roles that the chart binds to it."""
    api.create("/api/v1/namespaces", {"metadata": {"name": "pretune-system"}})
    for template in ("serviceaccount", "rbac"):
        command = [
            programs("helm") / "helm",
            "template",
            "pretune",
            CHART,
            "--namespace",
            "pretune-system",
            "--kube-version",
            version("kubernetes"),
        ]
        shown = [*command, "--show-only", f"templates/{template}.yaml"]
        made = subprocess.run(shown, check=True, capture_output=True, text=True).stdout
        plane.kubectl("apply", "--filename", "-", document=made)
    token = plane.kubectl("create", "token", "pretune", "--namespace", "pretune-system").strip()
    config = json.loads(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path = tmp_path_factory.mktemp("rights") / "operator.kubeconfig"
    path.write_text(json.dumps(config))
    return path


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
