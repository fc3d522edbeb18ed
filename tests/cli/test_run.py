"""`pretune run`: a chain in order, what is done is not done again, failures in a sentence, Ctrl-C."""

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pretune_api.jobs import Job
from pretune_api.manifest import COMMITTED_NAME
from pretune_cli import run as command
from pretune_cli.__main__ import main
from pretune_cli.documents import load
from pretune_cli.identity import fingerprint
from support.ports import free_port
from support.stand_in import obey

TESTS = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}


def job(kind: str, name: str, parent: str | None = None, steps: int = 10) -> str:
    learns = "objective: {causalLM: {}}" if kind == "PretrainJob" else "task: {causalLM: {}}"
    scratch = "model: {architecture: {type: llama}}\n  tokenizer: {train: {vocabSize: 300}}"
    return f"""
apiVersion: pretune.dev/v1alpha1
kind: {kind}
metadata: {{name: {name}}}
spec:
  {learns}
  {f"model: {{from: {{pretrainJob: {parent}}}}}" if parent else scratch}
  data: {{train: [{{uri: corpus/}}], sequenceLength: 32}}
  training: {{tokensPerStep: 64, maxSteps: {steps}, precision: fp32}}
  storage: {{uri: storage}}
  compute: {{workers: 1, gpusPerWorker: 0}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("some text")
    return tmp_path


def write(folder: Path, *jobs: str) -> Path:
    file = folder / "chain.yaml"
    file.write_text("---".join(jobs))
    return file


@dataclass
class Ended:
    """A `pretune run` that has ended."""

    status: int
    output: str
    errors: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.splitlines()]

    def endings(self) -> list[tuple[str, str]]:
        return [(line["job"], line["state"]) for line in self.lines if line["event"] == "Ended"]

    def trained(self) -> list[str]:
        return [line["job"] for line in self.lines if line["event"] == "Start"]


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`pretune run FILE OPTIONS…` in this process, with the stand-in for training."""
    monkeypatch.setattr("pretune_cli.run.run", partial(command.run, execute=obey))

    def run(file: Path, *options: str) -> Ended:
        status = main(["run", str(file), *options])
        return Ended(status, *capfd.readouterr())

    return run


def start(file: Path, *options: str) -> subprocess.Popen[str]:
    """The same as a process of its own, that can be sent signals."""
    process = [sys.executable, "-m", "support.stand_in", "run", str(file), *options]
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would hear of no closed terminal
    try:
        return subprocess.Popen(process, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGHUP, inherited)


def end(process: subprocess.Popen[str]) -> Ended:
    output, errors = process.communicate(timeout=240)
    return Ended(process.returncode, output, errors)


def test_parents_are_trained_first_and_their_artifacts_handed_on(folder: Path, run: Run) -> None:
    file = write(
        folder,
        job("FinetuneJob", "classify", parent="domain"),
        job("PretrainJob", "domain", parent="general"),
        job("PretrainJob", "general"),
    )
    ended = run(file)
    assert ended.status == 0, ended.errors
    assert ended.trained() == ["PretrainJob/general", "PretrainJob/domain", "FinetuneJob/classify"]
    artifacts = [line["artifact"] for line in ended.lines if line["event"] == "Ended"]
    for parent, child in itertools.pairwise(artifacts):
        origin = json.loads(Path(child["uri"].removeprefix("file://"), "config.json").read_text())
        assert origin["model"]["parent"]["folder"]["uri"] == parent["uri"]
        assert origin["model"]["parent"]["folder"]["digest"] == parent["digest"]


def test_it_ends_with_a_table_of_stages_metrics_and_artifacts(folder: Path, run: Run) -> None:
    ended = run(write(folder, job("PretrainJob", "general")))
    assert re.search(r"PretrainJob/general *│ causalLM *│ Succeeded *│ 10 *│ loss 2 ", ended.errors)
    assert re.search(r"^PretrainJob/general: file:///.*/artifact/0001$", ended.errors, re.MULTILINE)


def test_a_finished_stage_is_not_run_again_and_a_changed_input_makes_a_new_one(folder: Path, run: Run) -> None:
    general, domain = job("PretrainJob", "general"), job("PretrainJob", "domain", parent="general")
    assert run(write(folder, general, domain)).trained() == ["PretrainJob/general", "PretrainJob/domain"]
    again = run(write(folder, general, domain))
    assert again.trained() == []
    assert again.endings() == [("PretrainJob/general", "Succeeded"), ("PretrainJob/domain", "Succeeded")]
    changed = run(write(folder, general, job("PretrainJob", "domain", parent="general", steps=20)))
    assert changed.trained() == ["PretrainJob/domain"]
    (folder / "corpus" / "b.txt").write_text("more text")
    assert run(write(folder, general, domain)).trained() == ["PretrainJob/general", "PretrainJob/domain"]


def test_a_changed_job_says_which_it_does_not_go_on_from(folder: Path, run: Run) -> None:
    first = run(write(folder, job("PretrainJob", "general"), job("PretrainJob", "general-2")))
    assert "starts anew" not in first.errors
    changed = run(write(folder, job("PretrainJob", "general", steps=20)))
    uri = first.lines[-2]["artifact"]["uri"].removesuffix("/artifact/0001")
    assert f"PretrainJob/general: spec, data or parent are not those of {uri}; training starts anew" in changed.errors


def test_another_model_in_the_folder_that_is_the_parent_makes_another_job(folder: Path, run: Run) -> None:
    model = folder / "model" / "config.json"
    model.parent.mkdir()
    model.write_text("{}")
    file = write(folder, job("FinetuneJob", "tuned", "base").replace("pretrainJob: base", "uri: model"))
    assert run(file).trained() == ["FinetuneJob/tuned"]
    assert run(file).trained() == []
    model.write_text('{"saved": "anew"}')
    assert run(file).trained() == ["FinetuneJob/tuned"]


def tuned_from(folder: Path, model: str) -> Job:
    text = job("FinetuneJob", "tuned", "base").replace("pretrainJob: base", f"uri: {model}")
    return load([write(folder, text)])[0].job


def test_an_artifact_is_the_same_model_whenever_it_was_copied(folder: Path) -> None:
    tuned, committed = tuned_from(folder, "model"), folder / "model" / COMMITTED_NAME
    committed.parent.mkdir()
    committed.write_text("a digest")
    before = fingerprint(tuned)
    os.utime(committed, (0, 0))
    assert fingerprint(tuned) == before
    committed.write_text("another digest")
    assert fingerprint(tuned) != before


def test_a_model_below_the_storage_is_told_from_another(folder: Path) -> None:
    tuned, config = tuned_from(folder, "storage/base"), folder / "storage" / "base" / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text("{}")
    before = fingerprint(tuned)
    config.write_text('{"saved": "anew"}')
    assert fingerprint(tuned) != before


@pytest.mark.parametrize("model", [".", "storage"])
@pytest.mark.parametrize("stored", ["local", "cache"])
def test_what_a_job_stores_in_its_model_s_folder_does_not_make_another_job_of_it(
    folder: Path, model: str, stored: str
) -> None:
    tuned = tuned_from(folder, model)
    before = fingerprint(tuned)
    (folder / "storage" / stored).mkdir(parents=True)
    (folder / "storage" / stored / "log").write_text("step 1")
    assert fingerprint(tuned) == before


def test_tensorboard_and_history_are_written_below_the_jobs_folder(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETUNE_TENSORBOARD", "")
    run(write(folder, job("PretrainJob", "general")), "--tensorboard", str(folder / "events"))
    (history,) = (folder / "storage").glob("local/pretrainjob-general-*/history/0001/00001.jsonl")
    events = [json.loads(line)["event"] for line in history.read_text().splitlines()]
    assert events == ["Start", *["Step"] * 10, "Evaluated"]
    assert len(list((folder / "events").glob("local/pretrainjob-general-*/0001/events.*"))) == 1


def test_storage_and_compute_do_not_make_another_job(folder: Path, run: Run) -> None:
    file = write(folder, job("PretrainJob", "general"))
    assert run(file).trained() == ["PretrainJob/general"]
    (folder / "storage").rename(folder / "moved")
    assert run(file, "--storage", str(folder / "moved"), "--set", "spec.compute.pool=a100").trained() == []


@pytest.mark.parametrize(
    ("name", "status", "sentence"),
    [
        ("fails-early", 2, "spec.data.train[0].uri: row 7 is empty"),
        ("diverges-late", 1, "the loss is not finite at step 10"),
    ],
)
def test_a_failure_is_one_sentence_and_an_exit_code(
    folder: Path, run: Run, name: str, status: int, sentence: str
) -> None:
    ended = run(write(folder, job("PretrainJob", name), job("PretrainJob", "child", parent=name)))
    assert ended.status == status
    assert ended.errors.strip().splitlines()[-1] == sentence
    assert "Traceback" not in ended.errors
    assert ended.endings() == [(f"PretrainJob/{name}", "Failed")]


def test_a_mistake_of_ours_comes_with_its_stack(folder: Path, run: Run) -> None:
    ended = run(write(folder, job("PretrainJob", "breaks-down")))
    assert ended.status == 1
    assert ended.errors.count("Traceback") == 1
    assert ended.errors.strip().splitlines()[-1] == "KeyError: 'weight'"


def test_a_source_without_files_is_said_before_anything_is_started(folder: Path, run: Run) -> None:
    (folder / "corpus" / "a.txt").unlink()
    ended = run(write(folder, job("PretrainJob", "general")))
    assert ended.status == 2
    assert "spec.data.train[0].uri" in ended.errors
    assert ended.trained() == []


def test_a_source_that_reaches_into_the_storage_is_said_before_anything_is_started(folder: Path, run: Run) -> None:
    ended = run(write(folder, job("PretrainJob", "general").replace("uri: corpus/", "uri: ./")))
    assert ended.status == 2
    assert "overlaps with spec.storage.uri" in ended.errors
    assert ended.trained() == []


def test_several_workers_need_ray(folder: Path, run: Run) -> None:
    ended = run(write(folder, job("PretrainJob", "general")), "--workers", "2", "--no-ray")
    assert ended.status == 2
    assert ended.errors.strip() == "--no-ray: it supports only one rank, not 2; add --workers 1, or remove it"


@pytest.mark.parametrize(
    ("compute", "gpus", "said"),
    [
        ("workers: 999, gpusPerWorker: 0", 0, f"999 ranks, but this machine has {os.cpu_count()} CPUs"),
        ("workers: 999, gpusPerWorker: 8", 0, f"7992 ranks, but this machine has {os.cpu_count()} CPUs"),
        ("workers: 1, gpusPerWorker: 2", 1, "2 ranks, but this machine has 1 GPUs"),
    ],
)
def test_ranks_that_a_job_has_for_a_cluster_are_not_started_on_one_machine(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, compute: str, gpus: int, said: str
) -> None:
    monkeypatch.setattr("pretune_cli.run._gpus", lambda: gpus)
    file = write(folder, job("PretrainJob", "general").replace("workers: 1, gpusPerWorker: 0", compute))
    ended = run(file)
    assert ended.status == 2
    assert ended.errors.strip() == f"spec.compute: it requests {said}; set --workers"
    monkeypatch.setattr("pretune_cli.run._gpus", lambda: 0)
    assert run(file, "--workers", "1").status == 0


def wait_for(process: subprocess.Popen[str], event: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == event:
            return
    raise AssertionError(f"ended without {event}: {end(process).errors}")


def test_ctrl_c_commits_says_how_to_go_on_and_leaves_with_its_own_status(folder: Path) -> None:
    process = start(write(folder, job("PretrainJob", "waits-long"), job("PretrainJob", "next", parent="waits-long")))
    wait_for(process, "Said")
    process.send_signal(signal.SIGINT)
    ended = end(process)
    assert ended.status == 75
    assert [line["event"] for line in ended.lines] == ["Committed", "Ended"]
    assert ended.endings() == [("PretrainJob/waits-long", "Stopped")]
    assert ended.errors.strip().splitlines()[-1] == (
        "stopped at step 10, which is committed; run the same command again to resume"
    )


def test_a_closed_terminal_asks_to_stop_and_ctrl_c_after_that_leaves_at_once(folder: Path) -> None:
    process = start(write(folder, job("PretrainJob", "ignores-stops")))
    wait_for(process, "Said")
    process.send_signal(signal.SIGHUP)
    assert process.stderr is not None
    assert "Ctrl-C again to exit immediately" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert end(process).status == 130


def test_progress_and_metrics_are_served_where_asked(folder: Path) -> None:
    port = free_port()
    process = start(write(folder, job("PretrainJob", "waits-long")), "--metrics-port", str(port))
    wait_for(process, "Said")
    progress, metrics = (
        urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").read().decode() for path in ("/progress", "/metrics")
    )
    process.send_signal(signal.SIGTERM)
    assert end(process).status == 75
    told = json.loads(progress)["job"]
    assert (told["namespace"], told["kind"], told["name"], told["attempt"]) == ("local", "PretrainJob", "waits-long", 1)
    assert 'pretune_train_step{kind="PretrainJob",name="waits-long",namespace="local"} 10.0' in metrics


def test_a_port_that_is_taken_is_said(folder: Path, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run(write(folder, job("PretrainJob", "general")), "--metrics-port", port)
    assert ended.status == 2
    assert ended.errors.strip() == f"--metrics-port {port}: cannot listen on this port: Address already in use"


def test_two_workers_under_ray_train_a_chain_and_stop_when_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "RAY_ADDRESS", "192.0.2.1:6379")  # that of another cluster is no concern of theirs
    chain = job("PretrainJob", "general"), job("PretrainJob", "waits-long", parent="general")
    process = start(write(folder, *chain), "--workers", "2")
    wait_for(process, "Said")
    process.send_signal(signal.SIGINT)
    ended = end(process)
    assert ended.status == 75, ended.errors
    assert ended.endings() == [("PretrainJob/general", "Succeeded"), ("PretrainJob/waits-long", "Stopped")]
    [first, second] = (sorted(folder.glob(f"storage/local/*-{name}-*/logs/*/*")) for name in ("general", "waits-long"))
    assert [log.name for log in first] == [log.name for log in second] == ["driver", "rank-00000", "rank-00001"]
    said = [b"".join(chunk.read_bytes() for chunk in log.iterdir()).decode() for log in second]
    assert all("run 1: causalLM" in log for log in said[:2])
    assert all("Stopped: stopped at step 10, which is committed" in log for log in said)
    assert not any(":actor_name:" in log for log in said)
