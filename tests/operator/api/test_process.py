"""The operator as a process: what it says of its configuration, and how it ends."""

import os
import subprocess
import sys
from pathlib import Path

from e2e.cluster.control_plane import ControlPlane, control_plane
from e2e.cluster.process import wait_until
from support.fake_kuberay import FakeKubeRay
from support.job_world import World, condition, pretrain, reason
from support.kube_api import KubeApi
from support.operators import SETTINGS, OperatorProcess
from support.ports import free_port
from support.real_api_server import define_jobs, define_ray


def test_asked_to_end_it_ends_in_order(plane: ControlPlane, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(SETTINGS)
    port = free_port()
    command: list[str | Path] = [sys.executable, "-m", "pretune_operator", "--config", settings, "--port", str(port)]
    process = subprocess.Popen(command, env=os.environ | {"KUBECONFIG": str(plane.kubeconfig)}, stderr=subprocess.PIPE)
    wait_until(lambda: OperatorProcess.answers(port, "/readyz")[0] == 200, "the operator is ready")
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said.decode()


def test_without_kuberay_a_job_says_so_and_starts_once_it_is_there(tmp_path: Path) -> None:
    with control_plane(tmp_path / "bare") as plane:
        define_jobs(plane)
        with OperatorProcess(tmp_path, plane.kubeconfig):
            world, job = World(KubeApi(plane.kubeconfig), "default"), pretrain()
            world.apply(job)
            status = world.until_condition(job, "Running", "False")["status"]
            assert reason(status, "Running") == "KubeRayUnavailable"
            define_ray(plane)
            world.until(job, lambda said: said.get("attemptCount") == 1, "an attempt is made")
            # Its watches came with the definitions.
            with FakeKubeRay(KubeApi(plane.kubeconfig)):
                finished = world.until_condition(job, "Finished")["status"]
                assert condition(finished, "Succeeded") == "True"
