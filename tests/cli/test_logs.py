"""`pretune logs` of what `pretune run` has left in a storage."""

import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest

from pretune_api.run_config import RunConfig
from pretune_cli import run as command
from pretune_cli.__main__ import main
from pretune_trainer.parallel import Ranks
from pretune_trainer.report import Reporter
from pretune_trainer.result import RankResult
from support.stand_in import obey

Capture = pytest.CaptureFixture[str]

JOB = """
apiVersion: pretune.dev/v1alpha1
kind: PretrainJob
metadata: {name: NAME}
spec:
  objective: {causalLM: {}}
  model: {architecture: {type: llama}}
  tokenizer: {train: {vocabSize: 300}}
  data: {train: [{uri: corpus/}], sequenceLength: 32}
  training: {tokensPerStep: 64, maxSteps: 10, precision: fp32}
  storage: {uri: storage}
  compute: {workers: 1, gpusPerWorker: 0}
"""

PARENT = "model: {from: {pretrainJob: parent}}"


LONG = "x" * 3 * io.DEFAULT_BUFFER_SIZE
"""What is more than a stream holds back."""


def talk(config: RunConfig, ranks: Ranks, reporter: Reporter) -> RankResult:
    logging.getLogger("a.library").info(LONG if config.job.name == "talks-much" else "said in passing")
    return obey(config, ranks, reporter)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("pretune_cli.run.run", partial(command.run, execute=talk))
    monkeypatch.setattr(logging.getLogger(), "level", logging.INFO)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("some text")
    return tmp_path


def run(folder: Path, name: str) -> Path:
    """Where `pretune run` of a job has left what it has to leave."""
    file = folder / "job.yaml"
    file.write_text(JOB.replace("NAME", name))
    main(["run", str(file)])
    return folder / "storage"


def shown(capsys: Capture, *arguments: object) -> str:
    capsys.readouterr()
    assert main(["logs", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_a_run_leaves_its_driver_s_and_its_rank_s_log(folder: Path, capsys: Capture) -> None:
    storage = run(folder, "general")
    for log in (shown(capsys, storage), shown(capsys, storage, "--rank", "0")):
        assert "run 1: causalLM, 1,000 parameters" in log
        assert "a.library said in passing" in log
        assert "step 10: loss 2" in log
        assert log.splitlines()[-1].endswith("Succeeded: finished")


def test_a_failure_is_in_the_log_with_its_stack(folder: Path, capsys: Capture) -> None:
    storage = run(folder, "breaks-down")
    log = shown(capsys, storage, "--rank", "0")
    assert 'raise KeyError("weight")' in log
    assert log.splitlines()[-1].endswith("Failed: KeyError: 'weight'")


def test_a_log_that_finds_no_room_ends_in_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    storage = run(folder, "talks-much")
    capsys.readouterr()
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert main(["logs", str(storage), "--rank", "0"]) == 1
    assert capsys.readouterr().err == "cannot write to standard output: No space left on device\n"


def test_each_attempt_has_its_log_and_the_last_is_shown(folder: Path, capsys: Capture) -> None:
    run(folder, "fails-early")
    storage = run(folder, "fails-early")
    assert len(list(storage.glob("local/*/logs/*"))) == 2
    assert shown(capsys, storage) == shown(capsys, storage, "--attempt", "2")
    assert "row 7 is empty" in shown(capsys, storage, "--attempt", "1")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--attempt", "7"], "attempt 7 has no log; there are logs of attempts 1"),
        (["--rank", "3"], "there is no such log; available: driver, rank-00000"),
    ],
)
def test_a_log_that_there_is_not_is_said_with_those_that_there_are(
    folder: Path, capsys: Capture, options: list[str], sentence: str
) -> None:
    storage = run(folder, "general")
    assert main(["logs", str(storage), *options]) == 2
    assert sentence in capsys.readouterr().err


def test_a_job_without_logs_says_so(folder: Path, capsys: Capture) -> None:
    storage = run(folder, "general")
    (logs,) = storage.glob("local/*/logs")
    logs.rename(folder / "elsewhere")
    assert main(["logs", str(storage)]) == 2
    assert "there are no logs yet; --follow waits for the first" in capsys.readouterr().err


def test_of_a_file_the_jobs_that_ran_are_shown_parents_first(folder: Path, capsys: Capture) -> None:
    child = JOB.replace("NAME", "child").replace("model: {architecture: {type: llama}}", PARENT)
    file = folder / "chain.yaml"
    file.write_text("---".join([child.replace("  tokenizer: {train: {vocabSize: 300}}\n", ""), JOB]))
    file.write_text(file.read_text().replace("NAME", "parent"))
    assert main(["run", str(file)]) == 0
    lines = shown(capsys, file).splitlines()
    titles = [number for number, line in enumerate(lines) if line.startswith("PretrainJob/")]
    assert [lines[number] for number in titles] == ["PretrainJob/parent:", "PretrainJob/child:"]
    assert lines[titles[1] - 1].endswith("Succeeded: finished")
    assert lines[-1].endswith("Succeeded: finished")


def test_of_a_file_with_one_job_the_last_attempt_is_shown_as_of_its_folder(folder: Path, capsys: Capture) -> None:
    storage = run(folder, "general")
    assert shown(capsys, folder / "job.yaml", "--rank", "0") == shown(capsys, storage, "--rank", "0")


@pytest.mark.parametrize("command", [["logs"], ["logs", "--attempt", "1"], ["logs", "--rank", "0"], ["report"]])
def test_of_a_file_whose_job_has_changed_since_the_one_that_ran_is_named(
    folder: Path, command: list[str], capsys: Capture
) -> None:
    (ran,) = run(folder, "general").glob("local/*")
    (folder / "job.yaml").write_text((folder / "job.yaml").read_text().replace("maxSteps: 10", "maxSteps: 11"))
    assert main([*command, str(folder / "job.yaml")]) == 2
    said = f"this job has not run, but one with another spec, data or parent has: {ran.as_uri()}; repeat its --set"
    assert said in capsys.readouterr().err


def test_a_log_is_followed_without_a_look_at_other_jobs(folder: Path, capsys: Capture) -> None:
    run(folder, "general")
    with patch("pretune_cli.job_folder.namesake") as looked_for:
        shown(capsys, folder / "job.yaml", "--follow")
    looked_for.assert_not_called()


def test_of_a_file_that_was_run_elsewhere_and_otherwise_the_log_is_found_by_the_same_options(
    folder: Path, capsys: Capture
) -> None:
    run(folder, "general")
    file = str(folder / "job.yaml")
    options = ["--set", "spec.training.seed=7", "--storage", str(folder / "elsewhere")]
    assert main(["run", file, *options]) == 0
    elsewhere = shown(capsys, folder / "elsewhere")
    assert shown(capsys, file, *options) == elsewhere != shown(capsys, file)


def test_what_is_no_file_of_jobs_cannot_be_changed(folder: Path, capsys: Capture) -> None:
    storage = run(folder, "general")
    assert main(["logs", str(storage), "--set", "spec.training.seed=7"]) == 2
    assert f"--set: applies to files of jobs, and {storage} is not one" in capsys.readouterr().err


def test_what_has_ended_is_followed_to_its_end(folder: Path, capsys: Capture) -> None:
    storage = run(folder, "fails-early")
    assert shown(capsys, storage, "--follow") == shown(capsys, storage)


def driver_log(folder: Path, ending: str) -> Path:
    (file,) = folder.glob(f"storage/local/*/logs/*/driver/*.{ending}")
    return file


@pytest.fixture
def following(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`pretune logs --follow` of a run that goes on, as a process of its own."""
    command = [sys.executable, "-m", "pretune_cli", "logs", str(run(folder, "general")), "--follow"]
    ended = driver_log(folder, "ended")
    ended.rename(folder / ended.name)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        yield process
        process.kill()


def add_to_log(folder: Path, line: bytes) -> None:
    """What the driver says next."""
    with driver_log(folder, "log").open("ab") as file:
        file.write(line)


def end_run(folder: Path) -> None:
    (ended,) = folder.glob("*.ended")
    ended.rename(driver_log(folder, "log").parent / ended.name)


def test_a_run_is_followed_until_it_has_ended(folder: Path, following: subprocess.Popen[bytes]) -> None:
    assert following.stdout is not None
    while b"Succeeded" not in (line := following.stdout.readline()):
        assert line
    add_to_log(folder, b"the last word\n")
    end_run(folder)
    assert following.stdout.read() == b"the last word\n"
    assert following.wait(120) == 0


def test_what_comes_is_shown_and_a_reader_that_has_seen_enough_ends_it_quietly(
    folder: Path, following: subprocess.Popen[bytes]
) -> None:
    assert following.stdout is not None
    assert following.stderr is not None
    while b"Succeeded" not in (line := following.stdout.readline()):
        assert line
    add_to_log(folder, b"this comes later\n")
    assert following.stdout.readline() == b"this comes later\n"
    following.stdout.close()
    add_to_log(folder, b"nobody reads this\n")
    assert following.wait(120) == 141
    assert following.stderr.read() == b""
