"""Commands for a cluster where none can be reached: one sentence, and what to do."""

import socket
import sys
from pathlib import Path

import pytest

from pretune_cli.__main__ import main
from support.job_files import write

JOB = """
apiVersion: pretune.dev/v1alpha1
kind: PretrainJob
metadata: {name: general}
spec:
  objective: {causalLM: {}}
  model: {architecture: {type: llama}}
  tokenizer: {train: {}}
  data: {train: [{uri: "s3://corpora/general/"}]}
  training: {tokensPerStep: 1024, maxSteps: 10}
  storage: {uri: "s3://models/team"}
"""
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
clusters: [{name: here, cluster: {server: "http://127.0.0.1:PORT"}}]
users: [{name: here, user: {}}]
contexts: [{name: here, context: {cluster: here, user: here}}]
"""

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "job.yaml", JOB)


def use(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The client library has read $KUBECONFIG when it was imported.
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))


@pytest.mark.parametrize("command", [["status", "general"], ["report", "general"], ["submit", "FILE"]])
def test_without_a_kubeconfig_it_is_said_how_to_name_one(
    command: list[str], file: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    use(file.parent / "nothing", monkeypatch)
    assert main([str(file) if word == "FILE" else word for word in command]) == 2
    said = capsys.readouterr()
    assert "kubeconfig: " in said.err
    assert said.err.endswith("set KUBECONFIG to the kubeconfig of a cluster\n")
    assert said.out == ""


def test_without_the_client_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    assert main(["status", "general"]) == 2
    assert capsys.readouterr().err == "kubernetes: its client is not installed; pip install 'pretune[operator]'\n"


def test_an_api_server_that_does_not_answer_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        kubeconfig = KUBECONFIG.replace("PORT", str(closed.getsockname()[1]))
        use(write(tmp_path / "kubeconfig", kubeconfig), monkeypatch)
        assert main(["status", "general"]) == 1
    assert capsys.readouterr().err.startswith("the API server cannot be reached: ")
