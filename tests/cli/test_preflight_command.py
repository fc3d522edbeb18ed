"""`pretune preflight`: a chain checked job by job before anything is trained."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pretune_cli.__main__ import main

Capture = pytest.CaptureFixture[str]


def job(kind: str, name: str, learns: str, model: str, folder: str = "corpus/") -> str:
    return f"""
apiVersion: pretune.dev/v1alpha1
kind: {kind}
metadata: {{name: {name}}}
spec:
  {learns}
  {model}
  data: {{train: [{{uri: {folder}}}], sequenceLength: 32}}
  training: {{tokensPerStep: 64, maxSteps: 10, precision: fp32}}
  storage: {{uri: storage}}
  compute: {{workers: 2, gpusPerWorker: 4}}
"""


LLAMA = (
    "model: {architecture: {type: llama, config: {hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2,"
    " num_attention_heads: 2}}}\n  tokenizer: {train: {vocabSize: 300}}"
)
GENERAL = job("PretrainJob", "general", "objective: {causalLM: {}}", LLAMA)
CHILD = job("FinetuneJob", "child", "task: {causalLM: {}}", "model: {from: {pretrainJob: general}}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("A line of some text.\n" * 50)
    return tmp_path


def write(folder: Path, *jobs: str) -> str:
    file = folder / "chain.yaml"
    file.write_text("---".join(jobs))
    return str(file)


def said(capsys: Capture) -> dict[str, list[dict[str, Any]]]:
    """Findings by job."""
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    return {line["job"]: line["findings"] for line in lines}


def test_a_chain_is_checked_as_far_as_it_can_be_known(folder: Path, capsys: Capture) -> None:
    assert main(["preflight", write(folder, CHILD, GENERAL), "--json"]) == 0
    found = said(capsys)
    assert list(found) == ["PretrainJob/general", "FinetuneJob/child"]
    assert {finding["ok"] for finding in found["PretrainJob/general"]} == {True}
    unknown = [finding for finding in found["FinetuneJob/child"] if finding["ok"] is None]
    assert {finding["sentence"] for finding in unknown} == {"not known before PretrainJob/general has finished"}
    memory = found["PretrainJob/general"][-1]["sentence"]
    assert "per GPU: weights" in memory
    assert "gathered from other ranks" in memory
    assert re.search(r"; the host of rank 0 makes the model in [\d.]+ [KM]iB$", memory)


def test_what_is_wrong_is_in_the_table_and_in_the_exit_status(folder: Path, capsys: Capture) -> None:
    assert main(["preflight", write(folder, GENERAL), "--set", "spec.data.train[0].uri=nothing/"]) == 2
    shown = capsys.readouterr().out
    assert "PretrainJob/general" in shown
    assert "wrong" in shown
    assert "spec.data.train[0].uri" in shown


def test_a_source_that_reaches_into_the_storage_of_the_jobs_namespace_is_one_finding_among_others(
    folder: Path, capsys: Capture
) -> None:
    own = folder / "storage" / "team"
    own.mkdir(parents=True)
    (own / "a.txt").write_text("A line of some text.\n" * 50)
    elsewhere = GENERAL.replace("uri: corpus/", "uri: storage/team/")
    teams = elsewhere.replace("name: general", "name: general, namespace: team")
    assert main(["preflight", write(folder, teams), "--json"]) == 2
    [findings] = said(capsys).values()
    [wrong] = [finding for finding in findings if finding["ok"] is False]
    assert (wrong["check"], wrong["place"]) == ("spec", "spec.data.train[0].uri")
    assert "overlaps with spec.storage.uri" in wrong["sentence"]
    assert main(["preflight", write(folder, elsewhere), "--json"]) == 0


def test_a_path_that_is_wider_than_the_table_is_shown_to_its_end(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    name = "a" * 60 + "-which-is-not-there"
    file = write(folder, job("PretrainJob", "general", "objective: {causalLM: {}}", LLAMA, f"{name}/"))
    assert main(["preflight", file]) == 2
    cells = [line.split("│")[4].strip() for line in capsys.readouterr().out.splitlines() if line.count("│") == 5]
    assert name in "".join(cells)
