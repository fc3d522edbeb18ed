"""Preflights on a real API server, beside controllers that run nothing."""

from collections.abc import Iterator

import pytest

from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.process import wait_until
from support.fake_jobs import JOBS, FakeJobs, Play, passes
from support.fake_kuberay import FakeKubeRay
from support.job_world import World, condition, pretrain, reason
from support.kube_api import KubeApi
from support.operators import OperatorProcess
from support.preflights import MISTAKE, words
from support.shell import Shell

MISTAKEN = "mistaken"
"""Name of a job with a mistake in it."""


def plays(job: str) -> Play:
    return (words(MISTAKE), 2) if job == MISTAKEN else passes(job)


@pytest.fixture(scope="module")
def operator(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    with (
        FakeKubeRay(KubeApi(plane.kubeconfig)),
        FakeJobs(KubeApi(plane.kubeconfig), plays),
        OperatorProcess(tmp_path_factory.mktemp("operator"), plane.kubeconfig) as operator,
    ):
        yield operator


@pytest.fixture
def world(api: KubeApi, namespace: str, operator: OperatorProcess) -> World:
    return World(api, namespace)


def left(world: World) -> list[str]:
    """What is there of preflights."""
    return [made["metadata"]["name"] for made in (*world.items("jobs", "batch/v1"), *world.items("pods"))]


def test_a_job_that_passes_runs_and_keeps_its_findings_and_nothing_else_of_its_preflight(world: World) -> None:
    job = pretrain(preflight=True)
    world.apply(job)
    status = world.until_condition(job, "Finished")["status"]
    assert status["state"] == "Succeeded"
    assert condition(status, "PreflightPassed") == "True"
    [found] = status["preflight"]
    assert (found["result"], found["sentence"]) == ("Ok", "it can be read")
    wait_until(lambda: not left(world), "nothing but the job is left")


def test_a_mistake_fails_the_job_before_there_is_a_ray_job_and_is_told(
    world: World, plane: ControlPlane, namespace: str
) -> None:
    job = pretrain(MISTAKEN, preflight=True)
    world.apply(job)
    status = world.until_condition(job, "Finished")["status"]
    assert (status["state"], reason(status, "Failed")) == ("Failed", "UserError")
    assert world.ray_jobs() == []
    wait_until(lambda: not left(world), "nothing but the job is left")
    shown = Shell(plane.kubeconfig, namespace).pretune("status", MISTAKEN).stdout
    assert "preflight: source: wrong: spec.data.train[0].uri: there is nothing" in shown


def test_one_that_a_quota_forbids_is_done_without_at_once_and_is_told(
    world: World, api: KubeApi, namespace: str
) -> None:
    quota = {"hard": {"count/jobs.batch": "0"}}
    quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
    api.create(quotas, {"metadata": {"name": "none"}, "spec": quota})
    # The controller that would say so does not run beside a bare API server.
    api.merge(f"{quotas}/none/status", {"status": quota | {"used": {"count/jobs.batch": "0"}}})
    job = pretrain(preflight=True)
    world.apply(job)
    status = world.until_condition(job, "Finished", seconds=50)["status"]
    assert (status["state"], reason(status, "PreflightPassed")) == ("Succeeded", "Inconclusive")
    [found] = status["preflight"]
    assert found["result"] == "NotKnown"
    assert "exceeded quota: none" in found["sentence"]
    assert any(event["reason"] == "Inconclusive" for event in world.events())
    assert api.items(f"{JOBS}/namespaces/{namespace}/jobs") == []
