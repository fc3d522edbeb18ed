"""`pretune report NAME` on a real API server, where no operator is at work."""

from pathlib import Path
from typing import Any

from e2e.cluster.control_plane import ControlPlane
from pretune_api.run_config import RunConfig
from support.job_world import World, pretrain
from support.jobs import run_config
from support.kube_api import KubeApi
from support.reported import finish, run
from support.shell import Shell


def test_a_report_by_name_reads_the_storage_and_tells_attempts_and_gpu_hours(
    plane: ControlPlane, api: KubeApi, namespace: str, tmp_path: Path
) -> None:
    world = World(api, namespace)
    job = pretrain("reported", storage={"uri": (tmp_path / "storage").as_uri()})
    uid = world.apply(job)["metadata"]["uid"]
    attempt = {"number": 1, "rayJob": "ptj-reported-1", "cause": "NodeLost", "message": "node-7 is gone", "runs": 2}
    status = {"state": "Running", "attempts": [attempt], "attemptCount": 1, "gpuSeconds": 7200}
    api.merge(f"{world.path(job)}/status", {"status": status})
    config = _config(job, namespace, uid)
    run(config, range(1, 21))
    finish(config, 20)
    file = tmp_path / "report.html"
    ended = Shell(plane.kubeconfig, namespace).pretune("report", "reported", "--output", file)
    assert ended.returncode == 0, ended.stderr
    page = file.read_text()
    assert "<td>NodeLost</td><td>node-7 is gone</td>" in page
    assert "<dt>GPU-hours</dt><dd>2</dd>" in page


def _config(job: dict[str, Any], namespace: str, uid: str) -> RunConfig:
    """The run config that a job has on the cluster."""
    config = run_config(job["kind"], job["metadata"]["name"], job["spec"], {})
    return config.model_copy(update={"job": config.job.model_copy(update={"namespace": namespace, "uid": uid})})
