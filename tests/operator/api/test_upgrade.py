"""An operator that is replaced by one with other settings, while jobs train; and definitions with other rules."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.process import wait_until
from support.fake_kuberay import FakeKubeRay, Play
from support.job_world import Json, World, pretrain
from support.kube_api import KubeApi, RefusedError
from support.operators import SETTINGS, OperatorProcess
from support.specs import changed

NESTED = {"rope_parameters": {"full_attention": {"rope_type": "default", "factor": None}}, "layers": [{"width": 4}]}
"""Of a model's configuration, which no schema describes."""


FEW_STEPS = 13


def plays(job: str, attempt: int) -> Play:
    return Play.SUCCEEDS if job == "nested" else Play.RUNS


@pytest.fixture
def kuberay(plane: ControlPlane) -> Iterator[FakeKubeRay]:
    with FakeKubeRay(KubeApi(plane.kubeconfig), plays) as kuberay:
        yield kuberay


def settings(image: str) -> str:
    return SETTINGS.replace("pretune.test/pretrain:1", image)


def test_a_job_goes_on_with_the_image_that_it_began_with_until_retry_is_raised(
    plane: ControlPlane, api: KubeApi, namespace: str, kuberay: FakeKubeRay, tmp_path: Path
) -> None:
    world, job = World(api, namespace), pretrain()
    with OperatorProcess(tmp_path / "old", plane.kubeconfig, configured=settings("pretune.test/pretrain:1")):
        world.apply(job)
        trains(world, job, 1)
    with OperatorProcess(tmp_path / "new", plane.kubeconfig, configured=settings("pretune.test/pretrain:2")):
        loses_its_head(world, 1)
        trains(world, job, 2)
        world.change(job, retry=1)
        loses_its_head(world, 2)
        status = trains(world, job, 3)
    assert [attempt["image"] for attempt in status["attempts"]] == [
        "pretune.test/pretrain:1",
        "pretune.test/pretrain:1",
        "pretune.test/pretrain:2",
    ]


def test_a_job_that_breaks_a_rule_that_came_after_it_is_seen_to_its_end(
    plane: ControlPlane, api: KubeApi, namespace: str, kuberay: FakeKubeRay, tmp_path: Path
) -> None:
    world = World(api, namespace)
    job, new = (few_steps(name) for name in ("nested", "new"))
    world.apply(job)
    with (
        rule_of_specs(plane, world, f"self.training.maxSteps != {FEW_STEPS}", broken_by=new),
        OperatorProcess(tmp_path / "operator", plane.kubeconfig),
    ):
        assert world.until_condition(job, "Finished")["status"]["state"] == "Succeeded"


def few_steps(name: str) -> Json:
    changes = {"spec.model.architecture.config": NESTED, "spec.training.maxSteps": FEW_STEPS}
    return changed(pretrain(name), changes)


@contextmanager
def rule_of_specs(plane: ControlPlane, world: World, cel: str, broken_by: Json) -> Iterator[None]:
    """One more rule of PretrainJobs' specs, once it is in force."""
    patch_rules(plane, {"op": "add", "value": {"rule": cel, "message": "is ruled out"}})
    try:
        wait_until(lambda: is_refused(world, broken_by), "the rule is in force")
        yield
    finally:  # the API server is that of other tests, too
        patch_rules(plane, {"op": "remove"})


def patch_rules(plane: ControlPlane, operation: Json) -> None:
    place = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations/0"
    patch = json.dumps([operation | {"path": place}])
    plane.kubectl("patch", "crd", "pretrainjobs.pretune.dev", "--type=json", f"--patch={patch}")


def is_refused(world: World, job: Json) -> bool:
    try:
        world.api.create(f"{world.path(job).rpartition('/')[0]}?dryRun=All", job)
    except RefusedError as error:
        return "is ruled out" in str(error)
    return False


def trains(world: World, job: Json, attempt: int) -> Json:
    """Status, once that attempt has had a run."""
    found = world.until(job, lambda said: runs(said) == (attempt, True), f"attempt {attempt} trains")
    status: Json = found["status"]
    return status


def runs(status: Json) -> tuple[int, bool]:
    """The last attempt, and whether it has had a run."""
    attempts = status.get("attempts") or [{"number": 0}]
    return attempts[-1]["number"], attempts[-1].get("runs", 0) > 0


def loses_its_head(world: World, attempt: int) -> None:
    selected = f"ray.io/node-type=head,pretune.dev/attempt={attempt}"
    (head,) = world.api.items(f"{world.pods}?labelSelector={selected}")
    world.api.delete(f"{world.pods}/{head['metadata']['name']}", gracePeriodSeconds=0)
