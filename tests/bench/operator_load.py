"""The operator under load, on a real API server: jobs at a steady rate, beside a KubeRay that only writes status.

    PYTHONPATH=tests python tests/bench/operator_load.py ours|bare [--jobs 1000] [--rate 40]

prints one JSON object. A job counts from just before it is created until its RayJob is seen by another watch.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import quantiles
from typing import Any

from e2e.cluster.process import Running, running, wait_until
from support.fake_kuberay import FakeKubeRay
from support.job_world import World, pretrain
from support.kube_api import KubeApi, RefusedError
from support.operators import SETTINGS, OperatorProcess
from support.ports import free_port
from support.real_api_server import plane_with_kinds

HERE = Path(__file__).parent
IDLE_SECONDS = {False: 60, True: 300}
"""As long as from one census to the next, of a cluster that is large or not: each counts everything."""
LARGE = 5_000
"""Jobs from which on a census comes less often than each minute."""
LIVES = 20
"""Jobs whose whole lives are looked at for the calls that they cost."""
TICKS = os.sysconf("SC_CLK_TCK")


class Subject:
    """An operator as a process of its own, as it would run in its pod."""

    def __init__(self, program: Running, port: int) -> None:
        self.program = program
        self.port = port

    def ready(self) -> bool:
        return OperatorProcess.answers(self.port, "/readyz")[0] == 200

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.program)

    def mebibytes(self) -> float:
        status = Path(f"/proc/{self.program.process.pid}/status").read_text()
        lines = dict(line.split(":", 1) for line in status.splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024

    def metrics(self) -> dict[str, float]:
        lines = OperatorProcess.answers(self.port, "/metrics")[1].splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def cpu_seconds(program: Running) -> float:
    fields = Path(f"/proc/{program.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def subject(way: str, folder: Path, kubeconfig: Path) -> Iterator[Subject]:
    folder.mkdir()
    (folder / "settings.yaml").write_text(SETTINGS)
    port = free_port()
    ours = ["-m", "pretune_operator", "--config", str(folder / "settings.yaml"), "--port", str(port)]
    command = [sys.executable, *(ours if way == "ours" else [str(HERE / "bare_kopf.py")])]
    os.environ |= {"KUBECONFIG": str(kubeconfig), "PORT": str(port), "MANIFESTS": str(rendered(folder))}
    with running("operator", command, folder) as program:
        found = Subject(program, port)
        wait_until(found.ready, "the operator is ready", [program], seconds=300)
        yield found


def rendered(folder: Path) -> Path:
    """A file with what ours makes for a job, under the settings in `folder`."""
    job, made = folder / "job.json", folder / "made.yaml"
    job.write_text(json.dumps(pretrain()))
    command = [sys.executable, "-m", "pretune_cli", "render", str(job), "--settings", str(folder / "settings.yaml")]
    made.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    return made


class Arrivals:
    """When the RayJob of each job was first seen; `accept` says of each RayJob that it has been."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self.seen: dict[str, float] = {}
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        version = self._api.get("/apis/ray.io/v1/rayjobs?limit=1")["metadata"]["resourceVersion"]
        pool = ThreadPoolExecutor(1)  # KubeRay sees to one RayJob at a time, unless --reconcile-concurrency says more
        for event in self._api.watch("/apis/ray.io/v1/rayjobs", version):
            if event["type"] == "ADDED":
                meta = event["object"]["metadata"]
                self.seen[meta["ownerReferences"][0]["name"]] = time.monotonic()
                pool.submit(self._accept, meta)

    def _accept(self, meta: dict[str, Any]) -> None:
        """KubeRay takes the RayJob up, and waits for its Ray cluster."""
        status = {"jobDeploymentStatus": "Initializing", "rayClusterName": f"{meta['name']}-abcde"}
        path = f"/apis/ray.io/v1/namespaces/{meta['namespace']}/rayjobs/{meta['name']}/status"
        with suppress(RefusedError):
            self._api.merge(path, {"status": status})


def load(api: KubeApi, arrivals: Arrivals, jobs: int, rate: float) -> list[float]:
    """Seconds from each job's creation to its RayJob."""
    world, made = World(api, "default"), {}

    def make(number: int) -> None:
        name = f"job-{number:05}"
        made[name] = time.monotonic()
        world.apply(pretrain(name))

    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        for number in range(jobs):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            pool.submit(make, number)
    wait_until(lambda: len(arrivals.seen) == jobs, "every job has its RayJob", seconds=120 + jobs / rate)
    return [arrivals.seen[name] - at for name, at in made.items()]


def settled(*programs: Running) -> None:
    """Returns once these have done what they were given."""
    last = -1.0
    while (now := sum(map(cpu_seconds, programs))) - last > 0.05:
        last = now
        time.sleep(1)


def measure(way: str, jobs: int, rate: float) -> Iterator[tuple[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch, plane_with_kinds(Path(scratch) / "plane") as plane:
        api, folder = KubeApi(plane.kubeconfig), Path(scratch)
        with subject(way, folder / "first", plane.kubeconfig) as operator:
            arrivals = Arrivals(api)
            # What an API server does in its first seconds is no load of ours.
            settled(operator.program, *plane.programs)
            started = operator.cpu_seconds()
            seconds = load(api, arrivals, jobs, rate)
            settled(operator.program)
            yield "p50_seconds", quantiles(seconds, n=100)[49]
            yield "p99_seconds", quantiles(seconds, n=100)[98]
            yield "cpu_seconds_per_job", (operator.cpu_seconds() - started) / jobs
            yield "mebibytes", operator.mebibytes()
            before, idle = operator.cpu_seconds(), IDLE_SECONDS[jobs >= LARGE]
            time.sleep(idle)
            yield "idle_cpu", (operator.cpu_seconds() - before) / idle
        if way == "ours":
            yield from restarted(folder, plane.kubeconfig, jobs)
            api.close()
    if way == "ours":
        yield "calls_of_a_life", dict(lives())


def restarted(folder: Path, kubeconfig: Path, jobs: int) -> Iterator[tuple[str, Any]]:
    """Until an operator that starts anew has looked at every job."""
    began = time.monotonic()
    with subject("ours", folder / "second", kubeconfig) as operator:

        def resynced() -> bool:
            return operator.metrics().get("pretune_operator_reconcile_seconds_count", 0) >= jobs

        wait_until(resynced, "every job is reconciled", [operator.program], seconds=300)
        yield "restart_seconds", time.monotonic() - began
        yield "restart_mebibytes", operator.mebibytes()


def lives() -> Iterator[tuple[str, float]]:
    """Calls beside watches in the life of a job that succeeds at once, from creation to nothing left but itself."""
    with tempfile.TemporaryDirectory() as scratch, plane_with_kinds(Path(scratch) / "plane") as plane:
        world = World(KubeApi(plane.kubeconfig), "default")
        with (
            FakeKubeRay(KubeApi(plane.kubeconfig)),
            subject("ours", Path(scratch) / "lives", plane.kubeconfig) as operator,
        ):
            before = calls(operator)
            names = [pretrain(f"job-{number}") for number in range(LIVES)]
            for job in names:
                world.apply(job)
            for job in names:
                world.until_condition(job, "Finished")
            wait_until(lambda: not world.items("rayclusters", "ray.io/v1"), "no Ray cluster is left")
            settled(operator.program)
            yield from sorted((name, number / LIVES) for name, number in (calls(operator) - before).items())


def calls(operator: Subject) -> Counter[str]:
    """Calls so far, by verb and resource."""
    found: Counter[str] = Counter()
    for name, value in operator.metrics().items():
        if name.startswith("pretune_operator_api_calls_total"):
            labels = dict(part.split("=") for part in name.partition("{")[2].rstrip("}").replace('"', "").split(","))
            found[f"{labels['verb']} {labels['resource']}"] += int(value)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["ours", "bare"])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=40.0)
    options = parser.parse_args()
    print(json.dumps(dict(measure(options.way, options.jobs, options.rate))))
