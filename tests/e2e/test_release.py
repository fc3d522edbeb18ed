"""What administrators do to a release while people train: no run is disturbed, and in the end nothing is left."""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e import corpora
from e2e.conftest import SYSTEM, Installation
from e2e.rights import allowed
from e2e.world import Document, Namespace

JOB = "pretrainjob/bystander"
START_SECONDS = 400.0
OURS = "app.kubernetes.io/part-of=pretune"
DEFINITIONS = ("crd/pretrainjobs.pretune.dev", "crd/finetunejobs.pretune.dev")


@pytest.fixture(scope="module", autouse=True)
def installed_again(installation: Installation) -> Iterator[None]:
    """Whatever happens here, others find Pretune installed."""
    yield
    installation.release.install(installation.values)


@pytest.fixture(scope="module")
def training(team: Namespace) -> Namespace:
    """The namespace, with a job at work that takes longer than all tests here."""
    team.apply(corpora.endless(JOB.partition("/")[2]))
    team.wait_for_step(JOB, 1, START_SECONDS)
    return team


def what_runs(team: Namespace) -> dict[str, int]:
    """UIDs of all that the job's attempts consist of, and how often each pod's containers were started again."""
    found = team.items("rayjobs,rayclusters,pods,configmaps,networkpolicies", "-l", "pretune.dev/name")
    return {made["metadata"]["uid"]: _restarts(made) for made in found}


def _restarts(made: Document) -> int:
    return sum(container["restartCount"] for container in made.get("status", {}).get("containerStatuses", ()))


def step_of(team: Namespace) -> int:
    """The step that the head pod itself tells."""
    [head] = team.pods(JOB, "head")
    step: int = team.progress(head)["step"]
    return step


def with_settings(installation: Installation, **changed: Any) -> Document:
    """The chart's values with some of the operator's settings changed."""
    return installation.values | {"settings": installation.values["settings"] | changed}


def operator(installation: Installation) -> str:
    """UID of the operator's pod that is ready."""
    said = ("-l", f"{OURS},app.kubernetes.io/component=operator", "-o", "jsonpath={.items[*].metadata.uid}")
    return installation.cluster.kubectl("get", "pods", "-n", SYSTEM, "--field-selector=status.phase=Running", *said)


def test_helm_finds_the_operator_well(installation: Installation) -> None:
    assert "Phase:          Succeeded" in installation.release.test()


def test_the_notes_of_a_cluster_with_kuberay_warn_of_nothing(installation: Installation) -> None:
    assert "WARNING" not in installation.release.install(installation.values)


def test_who_may_edit_a_namespace_may_run_jobs_there_and_who_may_view_it_may_look(team: Namespace) -> None:
    for role in ("edit", "view"):
        team.kubectl("create", "rolebinding", f"they-{role}", f"--clusterrole={role}", f"--user=they-{role}")

    look, run = ("watch", "pretune.dev/pretrainjobs"), ("create", "pretune.dev/pretrainjobs")
    assert allowed(team.cluster, "they-view", team.name, {look, run}) == {look}
    assert allowed(team.cluster, "they-edit", team.name, {look, run}) == {look, run}


def test_an_upgrade_disturbs_no_run(training: Namespace, installation: Installation) -> None:
    before, decided_before, step = what_runs(training), operator(installation), step_of(training)
    installation.release.install(with_settings(installation, drainSeconds=90))
    assert operator(installation) not in ("", decided_before)
    status = training.wait_for_step(JOB, step + 1, 120.0)
    assert status["attemptCount"] == 1
    assert what_runs(training) == before


def test_an_uninstall_leaves_definitions_jobs_and_what_runs(training: Namespace, installation: Installation) -> None:
    before, step = what_runs(training), step_of(training)
    assert "These resources were kept" in installation.release.uninstall()
    gone = ("--for=delete", "--timeout=60s", "pods", "-l", f"{OURS},app.kubernetes.io/component=operator")
    installation.cluster.kubectl("wait", "-n", SYSTEM, *gone)
    assert training.status(JOB)["state"] == "Running"
    training.wait(JOB, lambda _: step_of(training) > step, "to go on without the operator", 120.0)
    assert what_runs(training) == before


def test_another_install_takes_the_jobs_over_as_they_are(training: Namespace, installation: Installation) -> None:
    before, step = what_runs(training), step_of(training)
    installation.release.install(installation.values)
    status = training.wait_for_step(JOB, step + 1, 120.0)
    assert status["attemptCount"] == 1
    assert what_runs(training) == before


def test_definitions_that_are_not_kept_leave_nothing(training: Namespace, installation: Installation) -> None:
    kubectl, release = installation.cluster.kubectl, installation.release
    training.delete(JOB, "--timeout=60s")
    kubectl("wait", "--for=delete", "--timeout=180s", "-n", training.name, "pods", "-l", "pretune.dev/name")
    release.install(installation.values | {"crds": {"keep": False}})
    assert "were kept" not in release.uninstall()
    kubectl("wait", "--for=delete", "--timeout=60s", *DEFINITIONS)
    # What Kubernetes itself has made of the Deployment and the Service goes after them, and has their labels.
    made = "pods,replicasets.apps,endpoints,endpointslices.discovery.k8s.io"
    kubectl("wait", "--for=delete", "--timeout=60s", "-n", SYSTEM, made, "-l", OURS)
    kinds = kubectl("api-resources", "--verbs=list", "-o", "name").split()
    left = kubectl("get", ",".join(kinds), "--all-namespaces", "-o", "name", "--ignore-not-found", "-l", OURS)
    assert left == ""
