"""A real API server on a real etcd, and nothing else: no node, no controllers, so nothing is collected or scheduled."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from support.ports import free_port

from . import access, network
from .binaries import programs
from .process import Command, Running, flags, running, wait_until

LOCALHOST = "127.0.0.1"
_USUAL = 6443
"""The port of an API server that has its node's address for itself."""


@dataclass(frozen=True)
class ControlPlane(access.Api):
    """A running API server; `folder` holds all of its state: certificates, kubeconfigs, etcd's data, logs."""

    server: str
    """Its URL."""
    programs: tuple[Running, ...] = ()
    """etcd and the API server."""

    @property
    def certificate(self) -> Path:
        """What a client trusts."""
        return self.folder / "apiserver.crt"


@contextmanager
def control_plane(folder: Path, address: str = LOCALHOST) -> Iterator[ControlPlane]:
    """An API server that listens on `address`, with all state in `folder`, until the context ends.

    Authorisation is RBAC; pods need no service account, since nothing would make one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    etcd_port, port = free_port(), free_port(address) if address == LOCALHOST else _USUAL
    plane = ControlPlane(folder, f"https://{address}:{port}")
    with ExitStack() as stack:
        etcd = stack.enter_context(running("etcd", _etcd(folder, etcd_port), folder))
        server = stack.enter_context(running("kube-apiserver", _api_server(plane, address, port, etcd_port), folder))
        wait_until(lambda: _ready(plane), "kube-apiserver is ready", [etcd, server])
        yield replace(plane, programs=(etcd, server))


def _etcd(folder: Path, port: int) -> Command:
    url = f"http://{LOCALHOST}:{port}"
    options = {
        "data-dir": folder / "etcd",
        "listen-client-urls": url,
        "advertise-client-urls": url,
        "listen-peer-urls": f"http://{LOCALHOST}:0",
        # Nothing here outlives the machine, and while gigabytes of images are written a sync can take seconds.
        "unsafe-no-fsync": "true",
        "log-level": "warn",
    }
    return [programs("etcd") / "server", *flags(options)]


def _api_server(plane: ControlPlane, address: str, port: int, etcd_port: int) -> Command:
    key = access.signing_key(plane.folder / "service-accounts.key")
    tokens = access.write_users(plane.folder, plane.server, plane.certificate)
    to_kubelets = access.kubelet_client(plane.folder)
    options: dict[str, object] = {
        "etcd-servers": f"http://{LOCALHOST}:{etcd_port}",
        "bind-address": address,
        "advertise-address": address,
        "secure-port": port,
        "cert-dir": plane.folder,  # it makes itself a certificate there
        "token-auth-file": tokens,
        "authorization-mode": "Node,RBAC",
        "service-cluster-ip-range": network.SERVICES,
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": key,
        "service-account-signing-key-file": key,
        "kubelet-client-certificate": to_kubelets.certificate,
        "kubelet-client-key": to_kubelets.key,
        "kubelet-preferred-address-types": "InternalIP",
    }
    alone = {"disable-admission-plugins": "ServiceAccount", "endpoint-reconciler-type": "none"}
    options |= alone if address == LOCALHOST else {}
    return [programs("kubernetes") / "kube-apiserver", *flags(options)]


def _ready(plane: ControlPlane) -> bool:
    """Whether everything that the API server makes at its start is there."""
    if not plane.certificate.exists():
        return False
    try:
        trusted = ssl.create_default_context(cafile=str(plane.certificate))
        with urllib.request.urlopen(f"{plane.server}/readyz", context=trusted, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ssl.SSLError, TimeoutError):
        return False
