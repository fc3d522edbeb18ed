"""The first process of the native cluster's namespaces: starts all that runs on the node, and ends if a part does."""

import os
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from . import components, network
from .binaries import programs
from .components import ctr
from .control_plane import control_plane
from .image import one_program_image
from .process import Command, Running, running, wait_until

STARTED = "started"
"""A file in the cluster's folder: there once everything on the node has been started."""

_WRITTEN = ("/run", "/var/log", "/var/lib/cni")
"""Folders that programs write to whatever they are told: the node has its own."""
TUNABLES = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
"""What the kubelet wants of the kernel, and would set for the whole machine if it did not find it."""


def main(folder: Path) -> None:
    _leave_machine_alone(folder)
    wait_until(_is_connected, "the node has its address")
    with ExitStack() as stack:
        parts = _start(folder, stack)
        (folder / STARTED).touch()
        while True:
            _reap(parts)
            for part in parts:
                part.require()
            time.sleep(0.2)


def _leave_machine_alone(folder: Path) -> None:
    """Mounts, seen by the node alone, over what would otherwise be changed on this machine."""
    for written in _WRITTEN:
        subprocess.run(["mount", "-t", "tmpfs", "node", written], check=True)
    for name, value in TUNABLES.items():
        wanted = folder / "tunables" / name
        wanted.parent.mkdir(parents=True, exist_ok=True)
        wanted.write_text(f"{value}\n")
        subprocess.run(["mount", "--bind", wanted, Path("/proc/sys") / name], check=True)


def _is_connected() -> bool:
    addresses = subprocess.run(["ip", "-brief", "-4", "addr"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return network.NODE in addresses


def _start(folder: Path, stack: ExitStack) -> list[Running]:
    _forget_containers(folder)
    runtime = stack.enter_context(running("containerd", components.containerd(folder), folder))
    plane = stack.enter_context(control_plane(folder, network.NODE))
    _wait_for_containerd(folder, runtime)
    _import_pause(folder)
    network.judge_pods()
    commands = {
        "kube-controller-manager": components.controller_manager(plane),
        "kube-scheduler": components.scheduler(plane),
        "coredns": components.name_server(plane),
        "kube-proxy": components.proxy(plane),
        "kube-network-policies": components.network_policies(plane),
        "kubelet": components.kubelet(plane),
    }
    others = [stack.enter_context(running(name, command, folder)) for name, command in commands.items()]
    return [runtime, *plane.programs, *others]


def _forget_containers(folder: Path) -> None:
    """Removes what an earlier cluster left beside its images: containers whose processes are gone."""
    with running("containerd", components.containerd(folder), folder) as runtime:
        _wait_for_containerd(folder, runtime)
        if containers := ctr(folder, "containers", "list", "--quiet").split():
            ctr(folder, "containers", "remove", *containers)


def _wait_for_containerd(folder: Path, runtime: Running) -> None:
    command: Command = ["ctr", "--address", components.socket(folder), "version"]
    wait_until(lambda: subprocess.run(command, capture_output=True).returncode == 0, "containerd answers", [runtime])


def _import_pause(folder: Path) -> None:
    program = programs("pause") / "pause"
    archive = one_program_image(program, components.PAUSE_IMAGE, folder / "pause.tar", path="/pause")
    ctr(folder, "images", "import", archive)


def _reap(parts: list[Running]) -> None:
    """Buries orphans, which the kernel hands to a namespace's first process; our own parts are asked by themselves."""
    ours = {part.process.pid for part in parts}
    while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if ended.si_pid in ours:
            return
        os.waitpid(ended.si_pid, 0)
