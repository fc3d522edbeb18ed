"""Every panel of every dashboard shows something of a real run, and of an operator beside a real API server."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.cluster.process import wait_until
from e2e.cluster.prometheus import Prometheus, prometheus
from e2e.panels import ONLY_WITH_A_PEAK, queries, without_data
from support.fake_kuberay import FakeKubeRay, Play
from support.job_world import World, pretrain
from support.kube_api import KubeApi
from support.operators import OperatorProcess
from support.ports import free_port
from support.real_api_server import plane_with_kinds

ADDRESS = "127.0.0.1"
CHOSEN = {"namespace": "local", "kind": "PretrainJob", "job": "small"}
EVERYTHING = {"namespace": ".*", "kind": ".*"}
RUNNING = 'pretune_operator_jobs{state="Running"} == 1'
SUCCEEDED = 'pretune_operator_jobs{state="Succeeded"} == 1'


@dataclass(frozen=True)
class Scraped:
    """What Prometheus has seen, and when."""

    prometheus: Prometheus
    start: float
    end: float

    def silent(self, dashboard: str, chosen: dict[str, str]) -> list[str]:
        return without_data(self.prometheus, queries(dashboard, chosen), self.start, self.end)


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    folder, start = tmp_path_factory.mktemp("panels"), time.time()
    port = free_port(ADDRESS)
    # The second Prometheus goes on with the first one's data.
    with prometheus(folder / "prometheus", ADDRESS, [scrape("trainer", port)]):
        train(folder / "run", port)
    with (
        plane_with_kinds(folder / "plane") as plane,
        FakeKubeRay(KubeApi(plane.kubeconfig), runs) as kuberay,
        OperatorProcess(folder / "operator", plane.kubeconfig) as operator,
        prometheus(folder / "prometheus", ADDRESS, [scrape("operator", operator.port)]) as scraper,
    ):
        operate(World(KubeApi(plane.kubeconfig), "default"), kuberay, scraper)
        yield Scraped(scraper, start, time.time())


def runs(job: str, attempt: int) -> Play:
    return Play.RUNS


def fails_once(job: str, attempt: int) -> Play:
    return Play.FAILS if attempt == 1 else Play.SUCCEEDS


def scrape(name: str, port: int) -> dict[str, object]:
    return {"job_name": name, "static_configs": [{"targets": [f"{ADDRESS}:{port}"]}]}


def operate(world: World, kuberay: FakeKubeRay, scraper: Prometheus) -> None:
    """A job whose first attempt fails, scraped while it runs and after it has ended."""
    job = pretrain()
    world.apply(job)
    wait_until(lambda: bool(scraper.query(RUNNING)), "the job is scraped as it runs")
    [ray_job] = world.ray_jobs()
    kuberay.plays = fails_once
    kuberay.replay(ray_job)
    world.until_condition(job, "Finished")
    wait_until(lambda: bool(scraper.query(SUCCEEDED)), "the end of the job is scraped")


def train(folder: Path, port: int) -> None:
    """A run that evaluates and commits several times, of one rank: test_chain.py has two, on Ray.

    Ray, once started, has 30 s to be there (its constant), which a busy machine can exceed.
    """
    folder.mkdir()
    sums = (f"{n} and {n + 1} are {2 * n + 1}" for n in range(4_000))
    (folder / "corpus.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in sums))
    job = {
        "apiVersion": "pretune.dev/v1alpha1",
        "kind": "PretrainJob",
        "metadata": {"name": "small"},
        "spec": {
            "objective": {"causalLM": {}},
            "model": {"architecture": {"type": "llama", "config": SHAPE}},
            "tokenizer": {"train": {"algorithm": "bpe", "vocabSize": 300}},
            "data": {
                "train": [{"uri": "corpus.jsonl"}],
                "validation": {"fraction": 0.02},
                "sequenceLength": 64,
            },
            "training": {"tokensPerStep": 1024, "maxSteps": 200, "learningRate": 1e-3, "precision": "fp32"},
            "evaluation": {"everySteps": 25},
            "checkpoint": {"everySteps": 25},
            "storage": {"uri": "storage"},
            "compute": {"gpusPerWorker": 0},
        },
    }
    (folder / "job.yaml").write_text(json.dumps(job))
    command: list[str | Path] = [Path(sys.executable).with_name("pretune"), "run", folder / "job.yaml"]
    command += ["--metrics-port", str(port)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "tie_word_embeddings": True,
}


def test_every_panel_of_a_job_shows_something(scraped: Scraped) -> None:
    assert scraped.silent("job", CHOSEN) == ONLY_WITH_A_PEAK


@pytest.mark.parametrize("dashboard", ["fleet", "operator"])
def test_every_panel_of_the_fleet_and_of_the_operator_shows_something(scraped: Scraped, dashboard: str) -> None:
    assert scraped.silent(dashboard, EVERYTHING) == []


def test_a_query_that_prometheus_does_not_understand_fails(scraped: Scraped) -> None:
    with pytest.raises(ValueError, match="parse error"):
        scraped.prometheus.query_range("sum(", scraped.start, scraped.end)
