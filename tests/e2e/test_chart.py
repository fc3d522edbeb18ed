"""What the chart makes of its values, before a real API server: no node is needed for that."""

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.control_plane import ControlPlane, control_plane
from e2e.release import CHART, NAME, Release, helm, rendered
from e2e.rights import Right, allowed
from e2e.world import Document
from pretune_api.names import PROGRESS_PORT
from pretune_operator.cluster.kinds import (
    BATCH_JOBS,
    CONFIG_MAPS,
    EVENTS,
    JOBS,
    MADE,
    NETWORK_POLICIES,
    NODES,
    RAY_CLUSTERS,
    RAY_JOBS,
    WATCHED,
    Resource,
)
from pretune_operator.pods import head_pod
from pretune_operator.settings import Settings
from support.views import settings, view

SYSTEM = "pretune-system"
TEAM = "team-a"
USER = f"system:serviceaccount:{SYSTEM}:{NAME}"
DEFINITIONS = {"pretrainjobs.pretune.dev", "finetunejobs.pretune.dev"}

PLAIN: Document = {}
OF_ONE_TEAM: Document = {"watchNamespaces": [TEAM], "crds": {"install": False}, "rbac": {"userRoles": False}}
FULL: Document = {
    "image": {"digest": f"sha256:{'0' * 64}"},
    "imagePullSecrets": [{"name": "registry"}],
    "settings": {
        "images": {"pretrain": "registry.example/pretrain:2"},
        "pools": {
            "default": None,
            "a100": {
                "nodeSelector": {"example.com/gpu": "a100"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                "resources": {"cpu": "90"},
                "env": [{"name": "NCCL_IB_HCA", "value": "mlx5"}],
                "namespaces": [TEAM],
            },
        },
        "defaultPool": "a100",
        "monitoringNamespace": "monitoring",
    },
    "serviceAccount": {"annotations": {"example.com/role": "pretune"}},
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "podLabels": {"team": "platform", "app.kubernetes.io/name": "of-somebody-else"},
    "podAnnotations": {"example.com/note": "1"},
    "metrics": {
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "serviceMonitor": {"enabled": True},
    },
}
VALUES = {"plain": PLAIN, "of-one-team": OF_ONE_TEAM, "full": FULL}
every_value_set = pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """An API server with a namespace for the operator and one for jobs, both of Pod Security "restricted"."""
    with control_plane(tmp_path_factory.mktemp("plane")) as plane:
        for name in (SYSTEM, TEAM):
            plane.kubectl("create", "namespace", name)
            plane.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        yield plane


@pytest.fixture
def release(plane: ControlPlane) -> Iterator[Release]:
    """A release that is not installed yet, and leaves nothing."""
    release = Release(SYSTEM, plane.kubeconfig, waits=False)
    yield release
    release.uninstall()
    plane.kubectl("delete", "crds", "--ignore-not-found", *DEFINITIONS)


def only(documents: list[Document], kind: str) -> Document:
    """The one manifest of a kind."""
    (found,) = (document for document in documents if document["kind"] == kind)
    return found


def definitions(plane: ControlPlane) -> set[str]:
    """Names of our CustomResourceDefinitions that the API server has."""
    return {name.rpartition("/")[2] for name in plane.kubectl("get", "crds", "-o", "name").split()} & DEFINITIONS


def accepted(plane: ControlPlane, *documents: Document) -> str:
    """What the API server says to the manifests, without keeping them."""
    together = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    return plane.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", document=together)


def rights_needed() -> set[Right]:
    """Verbs and resources of every call that the operator makes in a namespace."""

    def named(verbs: str, resources: Iterable[Resource], part: str = "") -> set[Right]:
        return {(verb, f"{kind.group}/{kind.plural}{part}") for verb in verbs.split() for kind in resources}

    return (
        named("list watch", WATCHED)
        | named("get create", MADE.values())
        | named("update", JOBS.values(), "/status")
        | named("delete", (RAY_JOBS, RAY_CLUSTERS, BATCH_JOBS))
        | named("deletecollection", (CONFIG_MAPS, NETWORK_POLICIES))
        | named("create", (EVENTS,))
    )


def test_helm_finds_nothing_to_criticise() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


@every_value_set
def test_an_api_server_takes_all_that_is_rendered(plane: ControlPlane, values: Document) -> None:
    known = [made for made in rendered(values) if not made["apiVersion"].startswith("monitoring.coreos.com")]
    assert len(accepted(plane, *known).splitlines()) == len(known)


@every_value_set
def test_the_operators_pod_is_restricted(plane: ControlPlane, values: Document) -> None:
    template = only(rendered(values), "Deployment")["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"] | {"name": "operator"}}
    accepted(plane, pod | {"spec": template["spec"]})
    (container,) = template["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert template["spec"]["securityContext"]["runAsUser"] > 0


@every_value_set
def test_the_operator_understands_its_settings(values: Document, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(only(rendered(values), "ConfigMap")["data"]["settings.yaml"])
    read = Settings.read(file)
    pools = {
        name for name, pool in values.get("settings", {}).get("pools", {"default": {}}).items() if pool is not None
    }
    assert read.pools.keys() == pools
    assert read.operator_namespace == SYSTEM


def test_a_change_of_settings_restarts_the_operator_and_nothing_else_does() -> None:
    def annotations(values: Document) -> Any:
        return only(rendered(values), "Deployment")["spec"]["template"]["metadata"]["annotations"]

    assert annotations({"settings": {"drainSeconds": 60}}) != annotations(PLAIN)
    assert annotations({"rbac": {"userRoles": False}}) == annotations(PLAIN)


@every_value_set
def test_no_role_has_wildcards_or_reads_secrets(values: Document) -> None:
    roles = [made for made in rendered(values) if made["kind"] in ("Role", "ClusterRole")]
    assert roles
    for rule in (rule for role in roles for rule in role["rules"]):
        named = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
        assert not any("*" in name or "secret" in name for name in named), rule


@pytest.mark.parametrize("values", [PLAIN, OF_ONE_TEAM], ids=["everywhere", "in-one-namespace"])
def test_the_operator_may_do_what_it_does_in_namespaces(
    plane: ControlPlane, release: Release, values: Document
) -> None:
    release.install(values | {"crds": {"install": True, "keep": False}})
    assert allowed(plane, USER, TEAM, rights_needed()) == rights_needed()
    elsewhere = set() if values.get("watchNamespaces") else rights_needed()
    assert allowed(plane, USER, "default", rights_needed()) == elsewhere
    assert allowed(plane, USER, TEAM, {("get", "/secrets"), ("list", "/configmaps"), ("create", "/pods")}) == set()


def granted(role: Document) -> set[Right]:
    return {
        (verb, f"{group}/{resource}")
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_every_right_of_the_operator_is_needed() -> None:
    of_the_cluster = {
        ("get", f"{NODES.group}/{NODES.plural}"),
        ("list", "apiextensions.k8s.io/customresourcedefinitions"),  # kopf notices by it that KubeRay is installed
        ("watch", "apiextensions.k8s.io/customresourcedefinitions"),
    }
    assert granted(only(rendered(OF_ONE_TEAM), "Role")) == rights_needed()
    [everywhere] = (
        made for made in rendered(PLAIN) if made["kind"] == "ClusterRole" and made["metadata"]["name"] == NAME
    )
    assert granted(everywhere) == rights_needed() | of_the_cluster


def test_with_a_list_of_namespaces_there_is_no_right_elsewhere() -> None:
    made = rendered(OF_ONE_TEAM)
    assert not {document["kind"] for document in made} & {"ClusterRole", "ClusterRoleBinding"}
    assert {document["metadata"]["namespace"] for document in made} == {SYSTEM, TEAM}
    (container,) = only(made, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert f"--namespace={TEAM}" in container["args"]


def test_prometheus_finds_the_head_pods_of_jobs_and_the_operator_reaches_them() -> None:
    made = rendered(FULL)
    pod = head_pod(view(), 1, settings(), "config")
    (port,) = (port for port in pod["spec"]["containers"][0]["ports"] if port["name"] == "metrics")
    assert port["containerPort"] == PROGRESS_PORT
    monitor = only(made, "PodMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["interval"]) == ("metrics", "15s")
    selector = monitor["spec"]["selector"]
    assert selector["matchLabels"] == {"ray.io/node-type": "head"}  # KubeRay's label
    assert {required["key"] for required in selector["matchExpressions"]} <= pod["metadata"]["labels"].keys()
    (flow,) = (rule for rule in only(made, "NetworkPolicy")["spec"]["egress"] if "to" in rule)
    assert flow == {"ports": [{"port": PROGRESS_PORT}], "to": [{"namespaceSelector": {}, "podSelector": selector}]}


def test_labels_that_are_added_to_the_operators_pod_hide_it_from_nobody() -> None:
    made = rendered(FULL)
    labels = only(made, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels["team"] == "platform"
    assert only(made, "Deployment")["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert only(made, "Service")["spec"]["selector"].items() <= labels.items()


def test_the_pod_of_a_test_may_be_what_the_operator_may_be_and_do_nothing() -> None:
    """Pull secrets, and OpenShift's constraints, belong to service accounts."""
    made = rendered({"serviceAccount": {"name": "robot"}})
    operator, pod = only(made, "Deployment")["spec"]["template"]["spec"], only(made, "Pod")["spec"]
    assert pod["serviceAccountName"] == operator["serviceAccountName"] == "robot"
    assert not pod["automountServiceAccountToken"]


def test_the_pod_of_a_test_has_the_operators_resources_which_a_quota_may_demand_all_of() -> None:
    resources = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    made = rendered({"resources": resources})
    pods = (only(made, "Deployment")["spec"]["template"], only(made, "Pod"))
    assert [pod["spec"]["containers"][0]["resources"] for pod in pods] == [resources, resources]


def test_labels_and_annotations_may_be_taken_out_of_the_values_below() -> None:
    assert only(rendered({"podLabels": None, "podAnnotations": None}), "Deployment")


def test_prometheus_finds_the_operator() -> None:
    made = rendered(FULL)
    wanted = only(made, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= only(made, "Service")["metadata"]["labels"].items()
    (ingress,) = only(made, "NetworkPolicy")["spec"]["ingress"]
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}} in ingress["from"]
    (container,) = only(made, "Deployment")["spec"]["template"]["spec"]["containers"]
    # By its number: some network plugins know no names of ports.
    assert ingress["ports"] == [{"port": port["containerPort"]} for port in container["ports"]]


def test_labels_by_which_prometheus_selects_stand_in_place_of_the_charts_own() -> None:
    labels = {"app.kubernetes.io/part-of": "monitoring"}
    monitor = only(rendered({"metrics": {"podMonitor": {"enabled": True, "labels": labels}}}), "PodMonitor")
    assert monitor["metadata"]["labels"]["app.kubernetes.io/part-of"] == "monitoring"
    assert monitor["metadata"]["labels"]["app.kubernetes.io/name"] == "pretune"


def numbers(made: Any) -> set[float]:
    """Every number in a document."""
    parts = made.values() if isinstance(made, dict) else made if isinstance(made, list) else ()
    own = {made} if isinstance(made, int | float) and not isinstance(made, bool) else set()
    return own.union(*map(numbers, parts))


def test_names_of_digits_stay_text() -> None:
    """Namespaces may be named so; YAML would take them for numbers, which the API server refuses."""
    values = FULL | {"watchNamespaces": ["2024"], "nameOverride": "2025", "priorityClassName": "2026"}
    values |= {"settings": {"monitoringNamespace": "2027"}, "serviceAccount": {"name": "2028"}}
    made = rendered(values, namespace="3e8", name="r1")
    assert numbers(made) & {2024, 2025, 2026, 2027, 2028, 3e8} == set()
    assert only(made, "Role")["metadata"]["namespace"] == "2024"


@pytest.mark.parametrize("name", ["2nd", "pretune.v2"])
def test_a_release_whose_name_no_service_may_have_is_refused_unless_it_is_overridden(name: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        rendered(PLAIN, name=name)
    assert "no Service may be named" in refusal.value.stderr
    assert only(rendered({"fullnameOverride": "second"}, name=name), "Service")["metadata"]["name"] == "second"


def test_another_chart_may_make_this_one_a_part_of_it_on_a_condition(tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path / "charts/pretune")
    part = {"name": NAME, "version": "*", "condition": "pretune.enabled"}
    whole = {"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [part]}
    (tmp_path / "Chart.yaml").write_text(json.dumps(whole))
    kinds = [made["kind"] for made in rendered({"pretune": {"enabled": True}}, chart=tmp_path)]
    assert "Deployment" in kinds
    assert rendered({"pretune": {"enabled": False}}, chart=tmp_path) == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"settings": {"pols": {}}}, "at '/settings': additional properties 'pols' not allowed"),
        (
            {"settings": {"pools": {"a": {"gpuPerNode": 8}}}},
            "at '/settings/pools/a': additional properties 'gpuPerNode'",
        ),
        ({"settings": {"drainSeconds": 0}}, "at '/settings/drainSeconds': minimum: got 0, want 1"),
        ({"crds": {"keep": "yes"}}, "at '/crds/keep': got string, want boolean"),
        ({"settings": {"defaultPool": "h100"}}, "settings.defaultPool: there is no pool h100 in settings.pools"),
        ({"settings": {"pools": {"A100": {}}}}, "at '/settings/pools': additional properties 'A100' not allowed"),
    ],
)
def test_a_slip_in_the_values_is_refused_with_its_place(values: Document, sentence: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        rendered(values)
    assert sentence in refusal.value.stderr


def test_definitions_outlive_a_release_and_are_taken_over_and_upgraded(plane: ControlPlane, release: Release) -> None:
    notes = release.install(PLAIN)
    assert "this cluster serves no ray.io/v1 RayJobs" in notes
    assert "These resources were kept" in release.uninstall()
    assert definitions(plane) == DEFINITIONS
    plane.kubectl(
        "patch", "crd/pretrainjobs.pretune.dev", "--type=merge", "-p", '{"spec":{"names":{"shortNames":["old"]}}}'
    )
    release.install(PLAIN)
    assert "ptj" in plane.kubectl("get", "crd/pretrainjobs.pretune.dev", "-o", "jsonpath={.spec.names.shortNames}")


def test_definitions_go_with_the_release_where_they_are_not_kept(plane: ControlPlane, release: Release) -> None:
    release.install(PLAIN)
    release.install({"crds": {"keep": False}})
    assert "were kept" not in release.uninstall()
    plane.kubectl("wait", "--for=delete", "crds", *DEFINITIONS, "--timeout=60s")
