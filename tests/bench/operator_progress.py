"""The operator beside a thousand jobs that train, on a real API server: how often it writes, and how old progress gets.

    PYTHONPATH=tests python tests/bench/operator_progress.py [--jobs 1000] [--seconds 120]

prints one JSON object. KubeRay makes all that the operator asks for, but a few drivers speak for all jobs.
"""

import argparse
import json
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from statistics import quantiles

from operator_load import Subject, subject

from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.process import wait_until
from support.fake_kuberay import RAY, FakeKubeRay, Head, Play, document
from support.job_world import PLURALS, World, pretrain
from support.kube_api import Json, KubeApi
from support.real_api_server import plane_with_kinds

START_SECONDS = 1_800
"""Time in which every job must train: a busy machine makes a few a second."""
REST_SECONDS = 60
"""Between the first progress of the last job and what is measured: nothing of the start is left by then."""
DRIVERS = 32
"""Addresses that heads share: a server for each of a thousand would take the machine for itself."""
TOTAL = 1_000_000
WRITES = re.compile(r'^apiserver_request_total\{.*resource="pretrainjobs".*subresource="status".*verb="(?:PUT|PATCH)"')


BEGAN = time.monotonic()


def now() -> int:
    """The step that every driver is at: the number of seconds since the beginning."""
    return int(time.monotonic() - BEGAN)


class Driver(Head):
    """What a driver says that is never done."""

    said = document(Play.RUNS, {"pretune.dev/name": "any", "pretune.dev/attempt": "1"})

    def says(self) -> Json:
        step = now()
        moved = {"step": step, "total": TOTAL, "percent": 0, "loss": 1 / (1 + step), "etaSeconds": float(TOTAL - step)}
        return self.said | moved


class Training(FakeKubeRay):
    """A KubeRay whose drivers train for ever."""

    def __init__(self, api: KubeApi) -> None:
        super().__init__(api)
        self._drivers = cycle([Driver(next(self._addresses)) for _ in range(DRIVERS)])
        self._pool = ThreadPoolExecutor(16)

    def _see(self, event: Json) -> None:
        if event["type"] == "ADDED":
            self._pool.submit(self._train, event["object"])

    def _train(self, ray_job: Json) -> None:
        meta = ray_job["metadata"]
        name = f"{meta['name']}-abcde"
        self._say(ray_job, jobDeploymentStatus="Initializing", rayClusterName=name, jobId=name)
        self._start(self._api.get(f"{RAY}/namespaces/{meta['namespace']}/rayjobs/{meta['name']}"))

    def _head(self) -> Head:
        return next(self._drivers)


class Shown:
    """The step that each job's status shows, by a watch."""

    def __init__(self, world: World) -> None:
        self._api = world.api
        self._path = f"/apis/pretune.dev/v1alpha1/namespaces/{world.namespace}/{PLURALS['PretrainJob']}"
        self.steps: dict[str, int] = {}
        self.changes = 0
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        version = self._api.get(f"{self._path}?limit=1")["metadata"]["resourceVersion"]
        for event in self._api.watch(self._path, version):
            self.changes += event["type"] == "MODIFIED"
            progress = event["object"].get("status", {}).get("progress")
            if progress:
                self.steps[event["object"]["metadata"]["name"]] = progress["step"]


def measure(jobs: int, seconds: int) -> Iterator[tuple[str, float]]:
    with tempfile.TemporaryDirectory() as scratch, plane_with_kinds(Path(scratch) / "plane") as plane:
        world = World(KubeApi(plane.kubeconfig), "default")
        shown = Shown(world)
        with (
            Training(KubeApi(plane.kubeconfig)),
            subject("ours", Path(scratch) / "operator", plane.kubeconfig) as operator,
            ThreadPoolExecutor(4) as pool,
        ):
            list(pool.map(lambda number: world.apply(pretrain(f"job-{number:05}")), range(jobs)))
            wait_until(lambda: len(shown.steps) == jobs, "all train", [operator.program], seconds=START_SECONDS)
            time.sleep(REST_SECONDS)
            yield from watched(plane, operator, shown, seconds)
        world.api.close()


def watched(plane: ControlPlane, operator: Subject, shown: Shown, seconds: int) -> Iterator[tuple[str, float]]:
    """What is seen in so many seconds; the age of progress is looked at every second."""
    began, cpu, written, changes = time.monotonic(), operator.cpu_seconds(), writes(plane), shown.changes
    ages: list[int] = []
    while time.monotonic() - began < seconds:
        time.sleep(1)
        step = now()
        ages += [step - at for at in shown.steps.copy().values()]
    cpu, written, changes = operator.cpu_seconds() - cpu, writes(plane) - written, shown.changes - changes
    took = time.monotonic() - began
    yield "status_writes_per_second", written / took
    yield "writes_a_change", written / changes
    yield "progress_age_p99_seconds", quantiles(ages, n=100)[98]
    yield "progress_age_longest_seconds", max(ages)
    yield "cpu", cpu / took
    yield "mebibytes", operator.mebibytes()


def writes(plane: ControlPlane) -> float:
    """Writes of the status of a PretrainJob so far, by the API server's own count, refused ones among them."""
    lines = plane.kubectl("get", "--raw", "/metrics").splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if WRITES.match(line))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=120)
    options = parser.parse_args()
    print(json.dumps(dict(measure(options.jobs, options.seconds))))
