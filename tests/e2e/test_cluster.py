"""The test cluster itself."""

import os
import subprocess
from pathlib import Path

from e2e.cluster.folders import cache_folder, state_folder
from e2e.cluster.machine import down, up

KERNEL_SETTINGS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward")


def test_down_leaves_nothing_on_this_machine() -> None:
    down()
    before = traces()
    up()
    assert traces() != before, "a running cluster is seen"
    down()
    assert traces() == before


def traces() -> dict[str, object]:
    """What a cluster could leave behind."""
    return {
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if names_cluster(line)],
        "links": output("ip", "-brief", "link"),
        "routes": output("ip", "route"),
        "packet rules": rules(),
        "processes": cluster_processes(),
        "network namespaces": output("ip", "netns"),
        # Not by a glob, which fails where a group of somebody else goes meanwhile.
        "control groups": sorted(path for path, _, _ in os.walk("/sys/fs/cgroup") if "pretune" in Path(path).name),
        "kernel settings": [(Path("/proc/sys") / name).read_text() for name in KERNEL_SETTINGS],
        "folders": [path for path in (state_folder(), Path("/var/lib/cni"), Path("/run/containerd")) if path.exists()],
    }


def output(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def rules() -> list[str]:
    """Packet rules without the comments, which tell the time."""
    return [line for line in output("iptables-save").splitlines() if not line.startswith("#")]


def cluster_processes() -> list[str]:
    """Command lines of processes that name the cluster's folders."""
    commands = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            commands.append((process / "cmdline").read_text(errors="replace"))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return sorted(filter(names_cluster, commands))


def names_cluster(text: str) -> bool:
    return any(str(folder) in text for folder in (state_folder(), cache_folder() / "containerd"))
