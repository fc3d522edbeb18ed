"""What runs on the node, and how it is told to."""

import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import access, network
from .binaries import programs
from .control_plane import ControlPlane
from .folders import cache_folder
from .process import Command, flags

PAUSE_IMAGE = "pretune.test/pause:1"
CGROUP = "pretune"
"""The parent of all pods' cgroups."""
DOMAIN = "cluster.local"
_IN_A_POD = Path("/run/secrets/kubernetes.io/serviceaccount")
"""Where programs that are written to run in a pod look for the API server's certificate and their token."""


def controller_manager(plane: ControlPlane) -> Command:
    options = {
        "kubeconfig": plane.kubeconfig_of("controller-manager"),
        "bind-address": "127.0.0.1",
        "leader-elect": "false",
        "use-service-account-credentials": "true",
        "service-account-private-key-file": plane.folder / "service-accounts.key",
        "root-ca-file": plane.certificate,
    }
    return [programs("kubernetes") / "kube-controller-manager", *flags(options)]


def scheduler(plane: ControlPlane) -> Command:
    options = {"kubeconfig": plane.kubeconfig_of("scheduler"), "bind-address": "127.0.0.1", "leader-elect": "false"}
    return [programs("kubernetes") / "kube-scheduler", *flags(options)]


def proxy(plane: ControlPlane) -> Command:
    # The machine's limits on tracked connections are not ours to change.
    untouched = dict.fromkeys(
        (
            "conntrack-max-per-core",
            "conntrack-min",
            "conntrack-tcp-timeout-established",
            "conntrack-tcp-timeout-close-wait",
        ),
        0,
    )
    options = {
        "kubeconfig": plane.kubeconfig_of("proxy"),
        "hostname-override": access.NODE,
        "proxy-mode": "iptables",
        "cluster-cidr": network.PODS,
        "bind-address": network.NODE,
    }
    return [programs("kubernetes") / "kube-proxy", *flags(options | untouched)]


def network_policies(plane: ControlPlane) -> Command:
    """SIG Network's kube-network-policies: it judges the first packet of each connection by the NetworkPolicies."""
    _IN_A_POD.mkdir(parents=True)
    (_IN_A_POD / "token").write_text(plane.token_of("network-policies"))
    (_IN_A_POD / "ca.crt").write_bytes(plane.certificate.read_bytes())
    server = urlsplit(plane.server)
    place = [f"KUBERNETES_SERVICE_HOST={server.hostname}", f"KUBERNETES_SERVICE_PORT={server.port}"]
    options = {
        "hostname-override": access.NODE,
        "nfqueue-id": network.JUDGE,
        "metrics-bind-address": "127.0.0.1:0",
    }
    return ["env", *place, programs("kube-network-policies") / "cmd", *flags(options)]


def name_server(plane: ControlPlane) -> Command:
    """CoreDNS, which knows services and pods, and nothing of the world outside."""
    corefile = plane.folder / "Corefile"
    corefile.write_text(
        f"""\
.:53 {{
    bind {network.NODE}
    errors
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig {plane.kubeconfig}
        ttl 1
    }}
}}
"""
    )
    return [programs("coredns") / "coredns", "-conf", corefile]


def containerd(folder: Path) -> Command:
    """The container runtime; images stay in the cache, so that importing one is done once."""
    cni = folder / "cni" / "10-pretune.conflist"
    cni.parent.mkdir(exist_ok=True)
    cni.write_text(json.dumps(_pod_network(folder), indent=1))
    config = folder / "containerd.toml"
    config.write_text(
        f"""\
version = 2
root = "{cache_folder()}/containerd"
state = "{folder}/containerd"

[grpc]
  address = "{socket(folder)}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE no process can be given a lower score than its parent's.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni.parent}"
"""
    )
    return ["containerd", "--config", config]


def socket(folder: Path) -> Path:
    """Where containerd listens."""
    return folder / "containerd.sock"


def ctr(folder: Path, *arguments: str | Path) -> str:
    """What containerd's own client prints, about the images and containers of Kubernetes."""
    command = ["ctr", "--address", socket(folder), "--namespace", "k8s.io", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def _pod_network(folder: Path) -> dict[str, Any]:
    """Each pod has a cable of its own to the node (no bridge), so that all of its packets meet kube-proxy's rules."""
    addresses = {
        "type": "host-local",
        "dataDir": str(folder / "addresses"),
        "ranges": [[{"subnet": network.PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {"cniVersion": "0.4.0", "name": "pretune", "plugins": [{"type": "ptp", "ipam": addresses}]}


def kubelet(plane: ControlPlane) -> Command:
    config = plane.folder / "kubelet.json"
    config.write_text(json.dumps(_kubelet_config(plane.folder), indent=1))
    options = {
        "config": config,
        "kubeconfig": plane.kubeconfig_of("kubelet"),
        "root-dir": plane.folder / "kubelet",
        "hostname-override": access.NODE,
        "node-ip": network.NODE,
    }
    return [programs("kubernetes") / "kubelet", *flags(options)]


def _kubelet_config(folder: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.NODE,
        "authentication": {"x509": {"clientCAFile": str(access.kubelet_client(folder).certificate)}},
        "containerRuntimeEndpoint": f"unix://{socket(folder)}",
        "clusterDNS": [network.NODE],
        "clusterDomain": DOMAIN,
        "resolvConf": "",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failSwapOn": False,
        "podLogsDir": str(folder / "pods"),
        "volumePluginDir": str(folder / "volume-plugins"),
        # A disk that looks full to the kubelet would cost images, the pause image first.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    }
