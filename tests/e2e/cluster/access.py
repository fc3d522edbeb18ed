"""Who may talk to the API server: users known by a token, and their kubeconfigs."""

import csv
import json
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .binaries import programs
from .process import flags

ADMIN = "admin"
NODE = "pretune"
"""The node's name."""

USERS = {
    ADMIN: ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
    "network-policies": ("network-policies", "system:masters"),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
}
"""Name of a kubeconfig -> user and group; the API server's own roles are bound to these names."""


@dataclass(frozen=True)
class Api:
    """An API server, seen by its administrator."""

    folder: Path
    """Where kubeconfigs lie."""

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.kubeconfig_of(ADMIN)

    def kubeconfig_of(self, user: str) -> Path:
        """The kubeconfig of one of `USERS`."""
        return self.folder / f"{user}.kubeconfig"

    def token_of(self, user: str) -> str:
        """By what the API server knows one of `USERS`."""
        [found] = json.loads(self.kubeconfig_of(user).read_text())["users"]
        token: str = found["user"]["token"]
        return token

    def kubectl(self, *arguments: str | Path, document: str | None = None) -> str:
        """What kubectl prints; `document` is its standard input. Raises CalledProcessError with its `stderr`."""
        ours = flags({"kubeconfig": self.kubeconfig, "cache-dir": self.folder / "kubectl"})
        command = [programs("kubernetes") / "kubectl", *ours, *arguments]
        try:
            return subprocess.run(command, input=document, capture_output=True, text=True, check=True).stdout
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr)
            raise


def write_users(folder: Path, server: str, certificate: Path) -> Path:
    """Writes a kubeconfig for each user, with a fresh token; returns the API server's list of tokens."""
    tokens = {name: secrets.token_hex(16) for name in USERS}
    for name, token in tokens.items():
        (folder / f"{name}.kubeconfig").write_text(kubeconfig(server, certificate, token))
    table = folder / "tokens.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows((tokens[name], user, name, group) for name, (user, group) in USERS.items())
    return table


def kubeconfig(server: str, certificate: Path, token: str) -> str:
    """A kubeconfig (JSON is YAML) with one user, known by `token`, of the API server at `server`."""
    cluster = {"server": server, "certificate-authority": str(certificate)}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "pretune",
            "clusters": [{"name": "pretune", "cluster": cluster}],
            "users": [{"name": "pretune", "user": {"token": token}}],
            "contexts": [{"name": "pretune", "context": {"cluster": "pretune", "user": "pretune"}}],
        },
        indent=1,
    )


def signing_key(path: Path) -> Path:
    """Makes the key that signs the tokens of service accounts."""
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
    return path


@dataclass(frozen=True)
class KeyPair:
    """A certificate that vouches for itself, and its key."""

    certificate: Path
    key: Path


def kubelet_client(folder: Path) -> KeyPair:
    """What the API server shows to kubelets, and they trust; made on first use."""
    pair = KeyPair(folder / "kubelet-client.crt", folder / "kubelet-client.key")
    if not pair.certificate.exists():
        kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
        subject = ["-subj", "/O=system:masters/CN=kube-apiserver"]
        _openssl("req", *kind, *subject, "-keyout", pair.key, "-out", pair.certificate)
    return pair


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
