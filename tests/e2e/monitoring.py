"""Prometheus where administrators have it: in the cluster, in the namespace that the chart is told of."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from e2e.cluster.access import Api
from e2e.cluster.addons import program_image
from e2e.cluster.binaries import programs
from e2e.cluster.cluster import Cluster
from e2e.cluster.process import flags, running, wait_until
from e2e.cluster.prometheus import Config, Prometheus, config_of
from e2e.world import Document, namespace, pod
from support.ports import LOCALHOST, free_port

MONITORING: Final = "monitoring"
_NAME: Final = "prometheus"
_PORT: Final = 9090


@contextmanager
def monitored(cluster: Cluster, folder: Path, scrapes: Sequence[Config]) -> Iterator[Prometheus]:
    """A Prometheus with these `scrape_configs`, in a pod of the namespace `MONITORING`."""
    image = program_image(cluster, _NAME, _NAME, path=f"/{_NAME}")
    with namespace(cluster, MONITORING) as made, _proxy(cluster, folder) as url:
        made.apply(*_finder(), _settings(scrapes), _pod(image))
        made.kubectl("wait", "--for=condition=Ready", f"pod/{_NAME}", "--timeout=120s")
        server = Prometheus(f"{url}/api/v1/namespaces/{MONITORING}/pods/{_NAME}:{_PORT}/proxy")
        wait_until(server.is_ready, f"{server.url} is ready")
        yield server


@contextmanager
def _proxy(cluster: Api, folder: Path) -> Iterator[str]:
    """The API server without a password, for programs of this machine."""
    port = free_port(LOCALHOST)
    options = {"kubeconfig": cluster.kubeconfig, "address": LOCALHOST, "port": port}
    with running("kubectl proxy", [programs("kubernetes") / "kubectl", "proxy", *flags(options)], folder):
        yield f"http://{LOCALHOST}:{port}"


def _finder() -> tuple[Document, ...]:
    """The service account, and its right to find pods."""
    rbac = "rbac.authorization.k8s.io"
    account = {"kind": "ServiceAccount", "name": _NAME}
    role = {"kind": "ClusterRole", "name": f"pretune.test:{_NAME}"}
    named = {"metadata": {"name": role["name"]}}
    return (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": _NAME}},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            **named,
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            **named,
            "roleRef": {"apiGroup": rbac, **role},
            "subjects": [{**account, "namespace": MONITORING}],
        },
    )


def _settings(scrapes: Sequence[Config]) -> Document:
    data = {"prometheus.json": config_of(scrapes)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": _NAME}, "data": data}


def _pod(image: str) -> Document:
    options = {"config.file": "/etc/prometheus/prometheus.json", "storage.tsdb.path": "/data"}
    container = {
        "image": image,
        "args": flags(options),
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": _PORT}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "settings", "mountPath": "/etc/prometheus"},
            {"name": "data", "mountPath": "/data"},
        ],
    }
    volumes = [{"name": "settings", "configMap": {"name": _NAME}}, {"name": "data", "emptyDir": {}}]
    return pod(_NAME, container, serviceAccountName=_NAME, volumes=volumes)
