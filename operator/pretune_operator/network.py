"""Who may talk to an attempt's pods: a table of allowed flows, and the NetworkPolicy that says the same.

What pods may reach themselves is not limited: stores and hubs have no addresses that are known here. Ports are those of
the head. One policy for all pods opens them on workers, too, where nothing listens on them; a second one would be one
more object of every attempt, and names of ports, which only the head has, open every port where a network plugin does
not know them (OVN-Kubernetes).
"""

from dataclasses import dataclass
from typing import Final, Literal

from pretune_api.names import PROGRESS_PORT
from pretune_operator.naming import Manifest
from pretune_operator.settings import Settings

DASHBOARD_PORT: Final = 8265
"""Where Ray's head takes jobs."""

_NAMESPACE: Final = "kubernetes.io/metadata.name"
"""The label that carries every namespace's name."""


@dataclass(frozen=True)
class Flow:
    """Packets that may go to the pods of an attempt."""

    source: Literal["attempt", "namespace", "anywhere"]
    """The attempt's own pods, the pods of a namespace, or every pod of the cluster."""
    port: int | None = None
    """TCP port; every port when absent."""
    namespace: str | None = None
    """The source's namespace, if it is one."""


def flows(settings: Settings) -> tuple[Flow, ...]:
    """Every flow that is allowed into an attempt's pods."""
    readers = sorted(filter(None, {settings.operator_namespace, settings.monitoring_namespace}))
    return (
        Flow("attempt"),
        *(Flow("namespace", PROGRESS_PORT, namespace) for namespace in readers),
        _submission(settings.kuberay_namespace),
    )


def _submission(namespace: str | None) -> Flow:
    if namespace is None:
        return Flow("anywhere", DASHBOARD_PORT)
    return Flow("namespace", DASHBOARD_PORT, namespace)


def network_policy(metadata: Manifest, settings: Settings) -> Manifest:
    """The flows as the NetworkPolicy of an attempt's pods."""
    labels = dict(metadata["labels"])
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": {
            "podSelector": {"matchLabels": labels},
            "policyTypes": ["Ingress"],
            "ingress": [_rule(flow, labels) for flow in flows(settings)],
        },
    }


def _rule(flow: Flow, labels: dict[str, str]) -> Manifest:
    peers: dict[str, Manifest] = {
        "attempt": {"podSelector": {"matchLabels": labels}},
        "namespace": {"namespaceSelector": {"matchLabels": {_NAMESPACE: flow.namespace}}},
        "anywhere": {"namespaceSelector": {}},
    }
    ports = {} if flow.port is None else {"ports": [{"protocol": "TCP", "port": flow.port}]}
    return {"from": [peers[flow.source]], **ports}
