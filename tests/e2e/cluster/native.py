"""The cluster made of processes of this machine, in namespaces of their own: for machines without a Docker engine.

The node's processes, mounts, links and packet rules live in a process, a mount and a network namespace. So nothing of
this machine is changed, and when the first process of these namespaces is killed, the kernel removes what is in them.
"""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from support.processes import end_process

from . import access, components, network, node
from .cluster import Cluster
from .image import names_of
from .process import Command, Running, wait_until

_TESTS = Path(__file__).parents[2]
_CGROUPS = Path("/sys/fs/cgroup")
_CNI = Path("/var/lib/cni")
"""The library for pod networks keeps notes there; the node mounts a folder of its own over it."""


@dataclass(frozen=True)
class Native(Cluster):
    """A node that is a process tree of this machine."""

    @property
    def host(self) -> str:
        return network.HOST

    @property
    def node(self) -> str:
        return access.NODE

    def start(self) -> None:
        if os.geteuid() != 0:
            raise PermissionError("Without a Docker engine the test cluster is made of namespaces and mounts: be root.")
        self.folder.mkdir(parents=True)
        _CNI.mkdir(exist_ok=True)
        for parent in _cgroup_parents():
            parent.mkdir(exist_ok=True)
        runner = self._start_node()
        network.connect(runner.process.pid)
        wait_until((self.folder / node.STARTED).exists, "the node's programs are started", [runner], seconds=120)

    def stop(self) -> None:
        if pid := self._pid():
            _end_namespaces(pid)
        network.disconnect()
        for parent in _cgroup_parents():
            _remove_cgroup(parent)
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            _CNI.rmdir()  # others may use it

    def runs(self) -> bool:
        return self._pid() is not None

    def images(self) -> set[str]:
        return set(components.ctr(self.folder, "images", "list", "--quiet").split())

    def load_image(self, archive: Path) -> None:
        components.ctr(self.folder, "images", "import", archive)

    def remove_image(self, image: str) -> None:
        names = names_of(image, components.ctr(self.folder, "images", "list"))
        components.ctr(self.folder, "images", "remove", *names)

    def bring(self, folder: Path) -> None:
        """The node has this machine's files."""

    def _start_node(self) -> Running:
        """Starts `node.main` as the first process of new namespaces."""
        namespaces: Command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        program = f"import sys, pathlib, {node.__name__} as node; node.main(pathlib.Path(sys.argv[1]))"
        log = self.folder / "node.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*namespaces, sys.executable, "-c", program, self.folder],
                env={**os.environ, "PYTHONPATH": str(_TESTS)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._pid_file.write_text(str(process.pid))
        runner, ours = Running("the node", process, log), _network_of(os.getpid())
        wait_until(lambda: _network_of(process.pid) != ours, "the node's namespaces exist", [runner])
        return runner

    @property
    def _pid_file(self) -> Path:
        return self.folder / "pid"

    def _pid(self) -> int | None:
        """The id of the node's process, unless it has ended and the id may be another's by now."""
        try:
            pid = int(self._pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return pid if os.fsencode(self.folder) in command.split(b"\0") else None


def _end_namespaces(pid: int) -> None:
    """Kills `unshare`, the process `pid`, and all that runs in its namespaces; returns when nothing does.

    The kernel kills it with the namespace's first process, which is there until the last of the others has ended.
    """
    within = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    for process in (*within, pid):
        with suppress(ProcessLookupError):
            end_process(process, signal.SIGKILL)


def _network_of(pid: int) -> int:
    return Path(f"/proc/{pid}/ns/net").stat().st_ino


def _cgroup_parents() -> list[Path]:
    """The parent of all pods' cgroups: one in version 2, one for each controller in version 1."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS / components.CGROUP]
    controllers = {entry.resolve() for entry in _CGROUPS.iterdir() if entry.is_dir()}
    return sorted(controller / components.CGROUP for controller in controllers)


def _remove_cgroup(parent: Path) -> None:
    """Removes a cgroup and those in it, once their last processes have ended."""

    def removed() -> bool:
        try:
            for folder, _, _ in os.walk(parent, topdown=False):
                Path(folder).rmdir()
        except OSError:
            return False
        return True

    wait_until(removed, f"{parent} is empty")
