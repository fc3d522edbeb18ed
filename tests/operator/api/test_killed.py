"""The operator is killed at each of its calls that change something, and the story ends as it would have anyway.

A call is killed after it was made; to be killed before the n-th call is to be killed after the one before it.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.process import wait_until
from support.fake_jobs import FakeJobs
from support.fake_kuberay import FakeKubeRay, Play
from support.job_world import World, pretrain
from support.kube_api import KubeApi
from support.operators import OperatorProcess

AT_ONCE = 3
"""Stories that are told side by side, each in a namespace with an operator of its own."""


def plays(job: str, attempt: int) -> Play:
    return {1: Play.FAILS, 2: Play.RUNS}.get(attempt, Play.SUCCEEDS)


@pytest.fixture(scope="module")
def kuberay(plane: ControlPlane) -> Iterator[FakeKubeRay]:
    with FakeKubeRay(KubeApi(plane.kubeconfig), plays) as kuberay:
        yield kuberay


@pytest.fixture(scope="module")
def jobs(plane: ControlPlane) -> Iterator[FakeJobs]:
    with FakeJobs(KubeApi(plane.kubeconfig)) as jobs:
        yield jobs


class Story(World):
    """A job that is tried, fails, runs, is suspended and succeeds, under an operator that may be killed once."""

    def __init__(self, api: KubeApi, kubeconfig: Path, folder: Path, dies_after: int | None = None) -> None:
        namespace = api.create("/api/v1/namespaces", {"metadata": {"generateName": "story-"}})["metadata"]["name"]
        super().__init__(api, namespace)
        self._folder = folder / namespace
        self._kubeconfig = kubeconfig
        self.was_killed = False
        self._operator = self._start("first", dies_after)

    def told(self) -> "Story":
        job = pretrain(preflight=True)
        self.apply(job)
        self.until(job, lambda said: said.get("attemptCount") == 2, "the failure is followed by another attempt")
        self.until_condition(job, "Running")
        self.change(job, suspend=True)
        self.until_condition(job, "Suspended")
        self.change(job, suspend=False)
        self.until_condition(job, "Finished")
        wait_until(lambda: self.living() and not self.left(), "nothing but the job is left")
        self.end = end_of(self.job(job)["status"])
        self.calls = self._operator.calls
        self._operator.stop()
        return self

    def until(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        job, holds, *rest = arguments
        return super().until(job, lambda said: self.living() and holds(said), *rest, **options)

    def living(self) -> bool:
        """True; if the operator has been killed, another one is started first."""
        if self._operator.killed():
            self.was_killed = True
            self._operator = self._start("second", None)
        return True

    def left(self) -> list[dict[str, Any]]:
        return [*self.items("rayclusters", "ray.io/v1"), *self.items("jobs", "batch/v1")]

    def _start(self, name: str, dies_after: int | None) -> OperatorProcess:
        arguments = ["--namespace", self.namespace]
        return OperatorProcess(self._folder / name, self._kubeconfig, *arguments, dies_after=dies_after)


def end_of(status: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on when the operator was killed: all but times and the names of Ray clusters."""
    return {
        "state": status["state"],
        "conditions": sorted((said["type"], said["status"], said["reason"]) for said in status["conditions"]),
        "attempts": [(made["number"], made["rayJob"][-1], made.get("cause")) for made in status["attempts"]],
        "artifact": status["artifact"]["digest"],
        "failures": status["failures"],
        "metrics": status["metrics"],
    }


def test_whenever_the_operator_is_killed_the_end_is_the_same_and_nothing_is_made_twice(
    plane: ControlPlane, api: KubeApi, kuberay: FakeKubeRay, jobs: FakeJobs, tmp_path: Path
) -> None:
    undisturbed = Story(api, plane.kubeconfig, tmp_path).told()
    assert undisturbed.end["attempts"][-1] == (3, "3", None)
    assert undisturbed.calls > 20

    with ThreadPoolExecutor(AT_ONCE) as pool:
        told = pool.map(lambda n: Story(api, plane.kubeconfig, tmp_path, n).told(), range(1, undisturbed.calls + 1))
        killed = 0
        for number, story in enumerate(told, 1):
            made = {
                name: times for (place, name), times in (kuberay.made + jobs.made).items() if place == story.namespace
            }
            assert story.end == undisturbed.end, f"killed after call {number}"
            assert sorted(made.values()) == [1, 1, 1, 1], f"killed after call {number}: {made}"
            killed += story.was_killed
    # How often progress is written depends on time: the last calls need not exist in every story.
    assert killed >= undisturbed.calls - 3
