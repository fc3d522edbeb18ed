"""`pretune render`: the manifests of the first attempt, as the operator would make them."""

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pretune_api.names import ExitCode
from pretune_cli.__main__ import main
from pretune_operator.settings import Settings
from support.job_files import finetune, pretrain, write
from support.views import SETTINGS

DIGEST = f"sha256:{'a' * 64}"
OF_AN_ATTEMPT = ["ConfigMap", "NetworkPolicy", "RayJob"]
ON_S3 = ["--set", "spec.storage.uri=s3://models/team", "--set", "spec.data.train=[{uri: s3://corpora/}]"]


def rendered(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main(["render", *arguments, *ON_S3]) == ExitCode.OK
    return list(YAML(typ="safe").load_all(capsys.readouterr().out))


def run_config(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    [config] = [manifest["data"]["run.json"] for manifest in manifests if manifest["kind"] == "ConfigMap"]
    found: dict[str, Any] = json.loads(config)
    return found


def test_a_job_becomes_what_kubectl_can_apply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rendered(capsys, str(write(tmp_path / "job.yaml", pretrain("general"))))
    assert [manifest["kind"] for manifest in found] == ["Job", *OF_AN_ATTEMPT]
    assert not any("ownerReferences" in manifest["metadata"] for manifest in found)
    assert run_config(found)["storage"]["uri"] == "s3://models/team"


def test_the_job_of_a_preflight_is_shown_where_there_would_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job, settings = str(write(tmp_path / "job.yaml", pretrain("general"))), tmp_path / "settings.yaml"
    preflight, *_ = rendered(capsys, job)
    assert preflight["metadata"]["name"].endswith("-preflight-1")
    annotations = preflight["spec"]["template"]["metadata"]["annotations"]
    assert [json.loads(said)["storage"]["uri"] for said in annotations.values()] == ["s3://models/team"]
    without = rendered(capsys, job, "--set", "spec.preflight=false")
    assert [manifest["kind"] for manifest in without] == OF_AN_ATTEMPT
    settings.write_text(json.dumps(SETTINGS | {"preflight": {"enabled": False}}))
    assert rendered(capsys, job, "--settings", str(settings), "--set", "spec.compute.pool=a100")[0]["kind"] != "Job"


def test_settings_name_images_and_pools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(json.dumps(SETTINGS))
    job = write(tmp_path / "job.yaml", pretrain("general"))
    *_, ray_job = rendered(capsys, str(job), "--settings", str(settings), "--set", "spec.compute.pool=a100")
    [group] = ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    [container] = group["template"]["spec"]["containers"]
    assert container["image"] == Settings.model_validate(SETTINGS).images.pretrain
    assert group["template"]["spec"]["nodeSelector"] == {"gpu": "a100"}


def test_a_pool_that_the_settings_lack_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(json.dumps(SETTINGS))
    job = write(tmp_path / "job.yaml", pretrain("general"))
    arguments = ["render", str(job), "--settings", str(settings), "--set", "spec.compute.pool=h100", *ON_S3]
    assert main(arguments) == ExitCode.USER_ERROR
    assert capsys.readouterr().err == (
        f"{job}: PretrainJob/general: spec.compute.pool: there is no pool h100; known pools: a100\n"
    )


def test_settings_that_are_wrong_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = write(tmp_path / "job.yaml", pretrain("general"))
    assert main(["render", str(job), "--settings", str(tmp_path / "none.yaml"), *ON_S3]) == ExitCode.USER_ERROR
    assert "none.yaml: cannot be read: No such file or directory" in capsys.readouterr().err


def test_a_parents_artifact_is_given_or_a_placeholder_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = str(write(tmp_path / "job.yaml", finetune("chat", "general")))
    assert main(["render", job, *ON_S3]) == ExitCode.OK
    assert "# The artifact of PretrainJob/general is unknown" in capsys.readouterr().out
    given = rendered(capsys, job, "--input", f"PretrainJob/general=s3://models/general@{DIGEST}")
    folder = run_config(given)["model"]["parent"]["folder"]
    assert (folder["uri"], folder["digest"]) == ("s3://models/general", DIGEST)


@pytest.mark.parametrize("wrong", ["general", "PretrainJob/general", "PretrainJob/general=nowhere", "Job/a=s3://b/c"])
def test_an_input_that_is_no_artifact_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    job = str(write(tmp_path / "job.yaml", finetune("chat", "general")))
    assert main(["render", job, "--input", wrong]) == ExitCode.USER_ERROR
    assert f"--input {wrong}: is not an artifact; write KIND/NAME=URI" in capsys.readouterr().err
