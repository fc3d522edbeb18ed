"""One file names data by its path, for a cluster that mounts it there and for a machine that has it there."""

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pretune_api.names import ExitCode
from pretune_cli import identity
from pretune_cli.__main__ import main
from pretune_cli.documents import load
from support.job_files import pretrain, write

VOLUMES = "spec.compute.volumes=[{claim: corpora, mountPath: /data}]"


def test_a_plain_path_is_one_of_a_volume_on_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = str(write(tmp_path / "job.yaml", pretrain("general").replace("./corpus/*.jsonl", "/data/corpus/*.jsonl")))
    assert main(["render", job, "--set", "spec.storage.uri=s3://models/team", "--set", VOLUMES]) == ExitCode.OK
    *_, config, _, ray_job = YAML(typ="safe").load_all(capsys.readouterr().out)
    assert json.loads(config["data"]["run.json"])["data"]["train"][0]["uri"] == "file:///data/corpus/*.jsonl"
    [workers] = ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert {"name": "claim-0", "persistentVolumeClaim": {"claimName": "corpora", "readOnly": True}} in (
        workers["template"]["spec"]["volumes"]
    )


def test_on_one_machine_volumes_are_nothing(tmp_path: Path) -> None:
    job = write(tmp_path / "job.yaml", pretrain("general"))
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.jsonl").write_text('{"text": "a"}\n')
    [plain], [mounting] = load([job]), load([job], [VOLUMES])
    assert identity.fingerprint(mounting.job) == identity.fingerprint(plain.job)
