"""Who may talk to an attempt's pods: a table of allowed flows, and the NetworkPolicies that say the same.

What pods may reach themselves is not limited: stores and hubs have no addresses that are known here.
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
    """One direction in which packets may go."""

    source: Literal["attempt", "namespace", "anywhere"]
    """The attempt's own pods, the pods of a namespace, or every pod of the cluster."""
    to: Literal["head", "all"]
    """The head pod, or all pods of the attempt."""
    port: int | None = None
    """TCP port; every port when absent."""
    namespace: str | None = None
    """The source's namespace, if it is one."""


def flows(settings: Settings) -> tuple[Flow, ...]:
    """Every flow that is allowed into an attempt's pods."""
    readers = {settings.operator_namespace, settings.monitoring_namespace} - {None}
    return (
        Flow("attempt", "all"),
        *(Flow("namespace", "head", PROGRESS_PORT, namespace) for namespace in sorted(filter(None, readers))),
        _submission(settings.kuberay_namespace),
    )


def _submission(namespace: str | None) -> Flow:
    if namespace is None:
        return Flow("anywhere", "head", DASHBOARD_PORT)
    return Flow("namespace", "head", DASHBOARD_PORT, namespace)


def network_policies(metadata: Manifest, settings: Settings) -> tuple[Manifest, ...]:
    """The flows as NetworkPolicies: one for all pods of an attempt, and one for its head."""
    return tuple(_policy(metadata, to, [flow for flow in flows(settings) if flow.to == to]) for to in ("all", "head"))


def _policy(metadata: Manifest, to: str, allowed: list[Flow]) -> Manifest:
    labels = dict(metadata["labels"])
    selected = labels | ({"ray.io/node-type": "head"} if to == "head" else {})
    name = metadata["name"] if to == "all" else f"{metadata['name']}-{to}"
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata | {"name": name},
        "spec": {
            "podSelector": {"matchLabels": selected},
            "policyTypes": ["Ingress"],
            "ingress": [_rule(flow, labels) for flow in allowed],
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
