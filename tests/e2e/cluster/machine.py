"""This machine's test cluster: made with kind where a Docker engine runs, else of processes of this machine."""

import shutil
import subprocess

from .addons import install_kuberay, prepare_node
from .binaries import build_all
from .cluster import Cluster
from .folders import lock, state_folder
from .kind import Kind
from .native import Native

_COMPLETE = "complete"
"""A file in the cluster's folder: there once all that `up` promises is there."""


def up() -> Cluster:
    """The machine's test cluster, with KubeRay; started unless it runs."""
    build_all()
    made = cluster()
    with lock("cluster"):
        complete = made.folder / _COMPLETE
        if not (complete.exists() and made.runs()):
            made.stop()
            made.start()
            prepare_node(made)
            install_kuberay(made)
            complete.touch()
    return made


def down() -> None:
    """Ends the machine's test cluster; nothing of it is left but what the cache keeps."""
    with lock("cluster"):
        cluster().stop()


def cluster() -> Cluster:
    """The machine's test cluster, whether it runs or not."""
    return (Kind if _has_docker_engine() else Native)(state_folder())


def _has_docker_engine() -> bool:
    return (
        shutil.which("docker") is not None and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    )
