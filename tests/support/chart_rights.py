"""The rights that the chart gives an operator, given on an API server."""

import json
import subprocess
from pathlib import Path

from e2e.cluster.binaries import programs, version
from e2e.cluster.control_plane import ControlPlane
from support.kube_api import KubeApi

CHART = Path(__file__).parents[2] / "charts" / "pretune"
SYSTEM = "pretune-system"


def grant(plane: ControlPlane, release: str, *namespaces: str) -> None:
    """Apply the chart's service account and roles, those of some namespaces or of the whole cluster."""
    command: list[str | Path] = [programs("helm") / "helm", "template", release, CHART, "--namespace", SYSTEM]
    command += ["--kube-version", version("kubernetes"), "--set-json", f"watchNamespaces={json.dumps(namespaces)}"]
    for template in ("serviceaccount", "rbac"):
        shown = [*command, "--show-only", f"templates/{template}.yaml"]
        made = subprocess.run(shown, check=True, capture_output=True, text=True).stdout
        plane.kubectl("apply", "--filename", "-", document=made)


def kubeconfig_of(plane: ControlPlane, account: str, folder: Path) -> Path:
    """Lets its holder do what the service account may."""
    token = plane.kubectl("create", "token", account, "--namespace", SYSTEM).strip()
    config = json.loads(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path = folder / "operator.kubeconfig"
    path.write_text(json.dumps(config))
    return path


def make_system(api: KubeApi) -> None:
    """The operator's namespace, unless it is there."""
    if SYSTEM not in {found["metadata"]["name"] for found in api.items("/api/v1/namespaces")}:
        api.create("/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
