"""Who may talk to an attempt's pods."""

from typing import Any

from pretune_operator.network import Flow, flows
from pretune_operator.rayjob import Manifests, manifests
from support.views import planned, settings, view


def made(**changes: Any) -> Manifests:
    return manifests(view(), planned(view()), 1, settings(**changes))


def test_the_flows_into_an_attempts_pods_are_these_and_no_others() -> None:
    table = {
        Flow("attempt"),
        Flow("namespace", 9464, "pretune-system"),
        Flow("namespace", 9464, "monitoring"),
        Flow("namespace", 8265, "kuberay"),
    }
    assert set(flows(settings(monitoringNamespace="monitoring", kuberayNamespace="kuberay"))) == table


def test_without_their_namespaces_nobody_scrapes_and_anyone_with_the_token_submits() -> None:
    assert set(flows(settings())) == {
        Flow("attempt"),
        Flow("namespace", 9464, "pretune-system"),
        Flow("anywhere", 8265),
    }


def test_the_network_policy_says_what_the_table_says() -> None:
    found = made(monitoringNamespace="monitoring", kuberayNamespace="kuberay")
    attempt = found.ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["metadata"]["labels"]

    def namespace(name: str, port: int) -> dict[str, Any]:
        selector = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
        return {"from": [selector], "ports": [{"protocol": "TCP", "port": port}]}

    assert found.network_policy is not None
    assert found.network_policy["spec"] == {
        "podSelector": {"matchLabels": attempt},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [{"podSelector": {"matchLabels": attempt}}]},
            namespace("monitoring", 9464),
            namespace("pretune-system", 9464),
            namespace("kuberay", 8265),
        ],
    }


def test_an_administrator_may_fence_pods_in_otherwise() -> None:
    assert made(networkPolicies=False).network_policy is None
