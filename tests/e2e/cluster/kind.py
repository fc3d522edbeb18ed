"""The cluster made with kind, where a Docker engine runs."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .binaries import programs
from .cluster import Cluster
from .image import names_of
from .node import TUNABLES

_NAME = "pretune"
_NETWORK = "kind"
"""kind makes it unless it is there, and leaves it."""
_KERNEL = Path("/proc/sys")


@dataclass(frozen=True)
class Kind(Cluster):
    """A node that is a container, of the image that kind's pinned version names.

    Its pods reach this machine, but not the other way round.
    """

    @property
    def host(self) -> str:
        networks = json.loads(_run("docker", "network", "inspect", _NETWORK))
        gateways: list[str] = [config.get("Gateway", "") for config in networks[0]["IPAM"]["Config"]]
        return next(gateway for gateway in gateways if "." in gateway)

    @property
    def node(self) -> str:
        return f"{_NAME}-control-plane"

    def start(self) -> None:
        self.folder.mkdir(parents=True)
        self._found.write_text(json.dumps({name: (_KERNEL / name).read_text().strip() for name in TUNABLES}))
        _kind("create", "cluster", "--name", _NAME, "--kubeconfig", self.kubeconfig, "--wait=120s")

    def stop(self) -> None:
        if self._found.exists() and self.runs():
            # The node's kubelet has set them, for the whole machine.
            found = json.loads(self._found.read_text())
            _run("docker", "exec", self.node, "sysctl", "--quiet", "--write", *(f"{n}={v}" for n, v in found.items()))
        _kind("delete", "cluster", "--name", _NAME, "--kubeconfig", self.kubeconfig)
        subprocess.run(["docker", "network", "rm", _NETWORK], capture_output=True)  # others may use it
        shutil.rmtree(self.folder, ignore_errors=True)

    def runs(self) -> bool:
        return _NAME in _kind("get", "clusters").split()

    def images(self) -> set[str]:
        return set(self._ctr("images", "list", "--quiet").split())

    def load_image(self, archive: Path) -> None:
        _kind("load", "image-archive", archive, "--name", _NAME)

    def remove_image(self, image: str) -> None:
        self._ctr("images", "remove", *names_of(image, self._ctr("images", "list")))

    def bring(self, folder: Path) -> None:
        _run("docker", "exec", self.node, "mkdir", "--parents", folder.parent)
        _run("docker", "cp", folder, f"{self.node}:{folder.parent}")

    @property
    def _found(self) -> Path:
        """What was found of the kernel's settings."""
        return self.folder / "kernel.json"

    def _ctr(self, *arguments: str) -> str:
        return _run("docker", "exec", self.node, "ctr", "--namespace", "k8s.io", *arguments)


def _kind(*arguments: str | Path) -> str:
    return _run(programs("kind") / "kind", *arguments)


def _run(*command: str | Path) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
