"""What a cluster needs beside Kubernetes: fake GPUs, KubeRay, Kueue."""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from .binaries import programs, version
from .cluster import Cluster
from .image import one_program_image
from .process import wait_until

GPUS = 8
"""GPUs that the node says it has."""
POOLS = ("a", "b")
"""The node belongs to two pools, by the labels `pool.pretune.test/a: "true"` and `pool.pretune.test/b: "true"`."""


_API_SERVICE = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService"}
_NO_API_SERVICES = {
    "target": {"kind": "APIService"},
    "patch": json.dumps({"$patch": "delete", "metadata": {"name": "any"}, **_API_SERVICE}),
}
"""This API server hands no calls on to others; one that is registered and not heard keeps namespaces from ending."""


def prepare_node(cluster: Cluster) -> None:
    """Gives the node, once it is there, GPUs that do not exist, and puts it into both pools."""
    node = f"node/{cluster.node}"
    cluster.kubectl("wait", "--for=create", node, "--timeout=60s")
    gpus = [{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": str(GPUS)}]
    cluster.kubectl("patch", node, "--subresource=status", "--type=json", "--patch", json.dumps(gpus))
    cluster.kubectl("label", node, "--overwrite", *(f"pool.pretune.test/{pool}=true" for pool in POOLS))
    cluster.kubectl("wait", "--for=condition=Ready", node, "--timeout=60s")


def install_kuberay(cluster: Cluster) -> None:
    """KubeRay's operator, in the namespace `default`."""
    _install(cluster, "kuberay", "ray-operator")
    cluster.kubectl("rollout", "status", "deployment/kuberay-operator", "--timeout=120s")


def install_kueue(cluster: Cluster) -> None:
    """Kueue, in the namespace `kueue-system`; its webhooks answer on return."""
    _install(cluster, "kueue", "kueue")
    rollout = ["rollout", "status", "deployment/kueue-controller-manager", "--timeout=180s"]
    cluster.kubectl("--namespace", "kueue-system", *rollout)
    wait_until(lambda: _takes_flavors(cluster), "Kueue's webhooks answer")


def _takes_flavors(cluster: Cluster) -> bool:
    """Whether the API server could create a ResourceFlavor, which Kueue's webhooks must see."""
    flavor = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ResourceFlavor", "metadata": {"name": "trial"}}
    try:
        cluster.kubectl("create", "--dry-run=server", "-f", "-", document=json.dumps(flavor))
    except subprocess.CalledProcessError:
        return False
    return True


def program_image(cluster: Cluster, tool: str, program: str, *, path: str) -> str:
    """An image, on the cluster's node, that holds and starts a tool's program alone."""
    image = f"pretune.test/{tool}:{version(tool)}"
    if image not in cluster.images():
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch) / "image.tar"
            cluster.load_image(one_program_image(programs(tool) / program, image, archive, path=path))
    return image


def _install(cluster: Cluster, tool: str, program: str) -> None:
    """Applies the tool's own manifests, with an image that holds its program alone."""
    image = program_image(cluster, tool, program, path="/manager")
    overlay = cluster.folder / tool
    overlay.mkdir(exist_ok=True)
    manifests = os.path.relpath(programs(tool) / "config" / "default", overlay)
    kustomization = {"resources": [manifests], "patches": [_local(image), _NO_API_SERVICES]}
    (overlay / "kustomization.yaml").write_text(json.dumps(kustomization))
    cluster.kubectl("apply", "--server-side", "--kustomize", overlay)


def _local(image: str) -> dict[str, Any]:
    """Starts the node's own image, in seconds: without a limit on its CPU, and asked early whether it is ready."""
    container = "/spec/template/spec/containers/0"
    values = {
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
        "readinessProbe/initialDelaySeconds": 1,
        "readinessProbe/periodSeconds": 1,
    }
    operations = [{"op": "add", "path": f"{container}/{field}", "value": value} for field, value in values.items()]
    return {"target": {"kind": "Deployment"}, "patch": json.dumps(operations)}
