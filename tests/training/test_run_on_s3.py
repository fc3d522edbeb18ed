"""A whole run with its sources and its storage on a real S3 endpoint."""

import shutil
from pathlib import Path

import pytest

from pretune_api.run_config import RunConfig
from pretune_trainer.errors import StopRequestedError
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Said, Start, Step
from pretune_trainer.storage.commit import manifest_of
from pretune_trainer.storage.store import Store
from support.jobs import Recorder, pretrain
from support.s3 import BUCKET, S3Server


def _on_s3(config: RunConfig, s3: S3Server) -> RunConfig:
    """The same job, its corpus copied to the bucket, its storage there."""
    folder = s3.new_folder()
    inside = s3.folder / BUCKET / folder.uri.rsplit("/", 1)[1]
    inside.mkdir()
    [source] = config.data.train
    corpus = Path(source.uri.removeprefix("file://"))
    shutil.copy(corpus, inside)
    where = {"endpoint": folder.endpoint, "region": folder.region}
    source = source.model_copy(update={"uri": f"{folder.uri}/{corpus.name}", **where})
    storage = config.storage.model_copy(update={"uri": f"{folder.uri}/storage", **where})
    data = config.data.model_copy(update={"train": [source]})
    return config.model_copy(update={"data": data, "storage": storage})


def test_a_run_on_s3_is_stopped_gone_on_with_and_ends_as_on_a_disk(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "node"))
    here = pretrain(tmp_path)
    there = _on_s3(here, s3)
    on_disk, first, second = Recorder(), Recorder(stop_at=3), Recorder()
    expected = run_rank(here, Ranks(), on_disk)
    with pytest.raises(StopRequestedError):
        run_rank(there, Ranks(), first)
    result = run_rank(there, Ranks(), second)

    steps = [*first.of(Step), *second.of(Step)]
    assert [step.loss for step in steps] == [step.loss for step in on_disk.of(Step)]
    assert second.of(Start)[0].from_step == len(first.of(Step))
    assert result.metrics == expected.metrics
    assert "ignores conditional puts" in first.of(Said)[0].text
    artifact = Store.open(there.storage.model_copy(update={"uri": result.artifact_uri}))
    assert manifest_of(artifact).digest == result.artifact_digest
