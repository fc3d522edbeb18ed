"""A whole run with its sources and its storage in an object store."""

from pathlib import Path

import pytest

from pretune_api.run_config import RunConfig
from pretune_api.storage import Location
from pretune_trainer.errors import StopRequestedError
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Said, Start, Step
from pretune_trainer.storage.commit import manifest_of
from pretune_trainer.storage.store import Store
from support.jobs import Recorder, pretrain


def _in(folder: Location, config: RunConfig) -> RunConfig:
    """The same job, its corpus copied to the folder, its storage there."""
    where = {"endpoint": folder.endpoint, "region": folder.region}
    [source] = config.data.train
    corpus = Path(source.uri.removeprefix("file://"))
    Store.open(folder).put(corpus.name, corpus)
    source = source.model_copy(update={"uri": f"{folder.uri}/{corpus.name}", **where})
    storage = config.storage.model_copy(update={"uri": f"{folder.uri}/storage", **where})
    data = config.data.model_copy(update={"train": [source]})
    return config.model_copy(update={"data": data, "storage": storage})


@pytest.mark.parametrize(
    ("server", "guarantee"), [("s3", "ignores conditional puts"), ("azure", "guarantees that no other run")]
)
def test_a_run_in_a_store_is_stopped_gone_on_with_and_ends_as_on_a_disk(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, server: str, guarantee: str
) -> None:
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "node"))
    here = pretrain(tmp_path)
    there = _in(request.getfixturevalue(server).new_folder(), here)
    on_disk, first, second = Recorder(), Recorder(stop_at=3), Recorder()
    expected = run_rank(here, Ranks(), on_disk)
    with pytest.raises(StopRequestedError):
        run_rank(there, Ranks(), first)
    result = run_rank(there, Ranks(), second)

    steps = [*first.of(Step), *second.of(Step)]
    assert [step.loss for step in steps] == [step.loss for step in on_disk.of(Step)]
    assert second.of(Start)[0].from_step == len(first.of(Step))
    assert result.metrics == expected.metrics
    assert guarantee in first.of(Said)[0].text
    artifact = Store.open(there.storage.model_copy(update={"uri": result.artifact_uri}))
    assert manifest_of(artifact).digest == result.artifact_digest
