"""`pretune submit` and `pretune status` on a real API server, beside a KubeRay that runs nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.control_plane import ControlPlane
from support.fake_kuberay import FakeKubeRay, Play
from support.job_world import World, finetune, pretrain
from support.kube_api import KubeApi
from support.operators import OperatorProcess
from support.shell import Shell

FAILS = "fails"
"""Name of a job all of whose attempts fail."""


@pytest.fixture(scope="module")
def operator(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    def plays(job: str, attempt: int) -> Play:
        return Play.FAILS if job == FAILS else Play.SUCCEEDS

    with (
        FakeKubeRay(KubeApi(plane.kubeconfig), plays),
        OperatorProcess(tmp_path_factory.mktemp("operator"), plane.kubeconfig) as operator,
    ):
        yield operator


@pytest.fixture
def shell(plane: ControlPlane, namespace: str) -> Shell:
    return Shell(plane.kubeconfig, namespace)


def write(file: Path, *jobs: dict[str, Any]) -> Path:
    file.write_text("---\n".join(json.dumps(job) + "\n" for job in jobs))
    return file


def test_a_chain_is_submitted_and_followed_to_its_end(
    shell: Shell, operator: OperatorProcess, namespace: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "chain.yaml", finetune(), pretrain())
    ended = shell.pretune("submit", file, "--follow")
    assert ended.returncode == 0, ended.stderr
    said, lines = ended.stdout.splitlines()[:2], ended.stdout.splitlines()[2:]
    assert said[0] == f"FinetuneJob/classify: submitted to namespace {namespace}"
    last = {line["job"]: line["state"] for line in map(json.loads, lines)}
    assert last == {"FinetuneJob/classify": "Succeeded", "PretrainJob/general": "Succeeded"}
    shown = shell.pretune("status", "classify").stdout
    assert "FinetuneJob/classify, sequenceClassification, Succeeded" in shown
    assert "made from: PretrainJob/general" in shown
    assert "metrics: loss 2.25" in shown
    assert "artifact: s3://models/classify/artifact/0001 sha256:" in shown


def test_what_is_submitted_again_is_changed_in_place_and_what_may_not_change_is_refused(
    shell: Shell, api: KubeApi, namespace: str, tmp_path: Path
) -> None:
    file, world = write(tmp_path / "job.yaml", pretrain()), World(api, namespace)
    assert shell.pretune("submit", file).returncode == 0
    assert shell.pretune("submit", file, "--set", "spec.suspend=true").returncode == 0
    assert world.job(pretrain())["spec"]["suspend"] is True
    refused = shell.pretune("submit", file, "--set", "spec.training.seed=7")
    assert refused.returncode == 1
    assert refused.stderr.startswith("PretrainJob/general: ")
    assert "cannot be changed once the job exists" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_job_that_failed_is_told_with_its_attempts_and_its_cause(
    shell: Shell, operator: OperatorProcess, tmp_path: Path
) -> None:
    job = pretrain(FAILS, failurePolicy={"backoffSeconds": 0})
    ended = shell.pretune("submit", write(tmp_path / "job.yaml", job), "--follow")
    assert ended.returncode == 1
    last = json.loads(ended.stdout.splitlines()[-1])
    assert last["state"] == "Failed"
    assert last["message"]
    shown = shell.pretune("status", f"pretrainjob/{FAILS}").stdout
    assert shown.splitlines()[1].startswith("Unknown: it broke; giving up")
    assert shown.count("from step 0, Unknown: it broke") == 4  # the first attempt, and three more


def test_a_folder_of_this_machine_is_refused_before_anything_is_sent(
    shell: Shell, api: KubeApi, namespace: str, tmp_path: Path
) -> None:
    local = pretrain("local", storage={"uri": str(tmp_path)})
    ended = shell.pretune("submit", write(tmp_path / "jobs.yaml", pretrain(), local))
    assert ended.returncode == 2
    assert "PretrainJob/local: spec.storage.uri" in ended.stderr
    assert "is not in an object store" in ended.stderr
    assert World(api, namespace).items("pretrainjobs", "pretune.dev/v1alpha1") == []


def test_a_name_that_nothing_or_two_jobs_have_is_told(shell: Shell, tmp_path: Path) -> None:
    missing = shell.pretune("status", "nothing")
    assert missing.returncode == 2
    assert missing.stderr.startswith("nothing: there is no such job in namespace test-")
    write(tmp_path / "jobs.yaml", pretrain("same"), finetune("same"))
    assert shell.pretune("submit", tmp_path / "jobs.yaml").returncode == 0
    several = shell.pretune("status", "same")
    assert several.returncode == 2
    assert "there are PretrainJob/same and FinetuneJob/same; specify one of them" in several.stderr
    assert shell.pretune("status", "finetunejob/same").returncode == 0
