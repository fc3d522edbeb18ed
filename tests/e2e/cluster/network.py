"""Addresses of the native cluster, and the cable between this machine and the cluster's network namespace.

Everything of the cluster's network, its rules and its links, lives in that namespace and goes with it. The cable's two
ends make pods and services reachable from this machine, and this machine reachable from pods; nothing else is.
"""

import subprocess

HOST = "10.97.0.1"
"""This machine, seen from pods."""
NODE = "10.97.0.2"
"""The node, and its API server and name server."""
PODS = "10.244.0.0/16"
SERVICES = "10.96.0.0/16"
"""The first is the API server's."""
JUDGE = 100
"""The kernel's queue of packets that `components.network_policies` judges."""
_CABLE = "pretune0"


def connect(pid: int) -> None:
    """Connects the network namespace of the process `pid`; the cable goes when that namespace goes."""
    _ip("link", "add", _CABLE, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    _ip("addr", "add", f"{HOST}/30", "dev", _CABLE)
    _ip("link", "set", _CABLE, "up")
    inside = ["nsenter", "--target", str(pid), "--net"]
    _ip("link", "set", "lo", "up", inside=inside)
    _ip("addr", "add", f"{NODE}/30", "dev", "eth0", inside=inside)
    _ip("link", "set", "eth0", "up", inside=inside)
    _ip("route", "add", "default", "via", HOST, inside=inside)
    for addresses in (PODS, SERVICES):
        _ip("route", "add", addresses, "via", NODE)


def disconnect() -> None:
    """Takes the cable out, if there is one."""
    subprocess.run(["ip", "link", "delete", _CABLE], capture_output=True)


def judge_pods() -> None:
    """Lets no connection from or to a pod begin that is not judged first; called in the node's namespace.

    What the node itself begins is not judged: probes of the kubelet, and calls that the API server hands on. The judge
    would ask for the packets itself, with nftables, which not every kernel can hand over to a queue; iptables can.
    """
    first: list[str] = ["-m", "conntrack", "--ctstate", "NEW", "-j", "NFQUEUE", "--queue-num", str(JUDGE)]
    for chain in (["FORWARD"], ["INPUT", "--source", PODS]):
        subprocess.run(["iptables", "--table", "mangle", "--append", *chain, *first], check=True)


def _ip(*arguments: str, inside: list[str] | None = None) -> None:
    subprocess.run([*(inside or []), "ip", *arguments], check=True)
