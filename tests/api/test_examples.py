"""What stands in examples/ is accepted as it is: by the models, by the API server, and by transformers."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pretune_api import FinetuneJob, PretrainJob
from pretune_api.problems import parse
from support.api_server import ApiServer

FILES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
SERVERS = {"PretrainJob": ApiServer(PretrainJob), "FinetuneJob": ApiServer(FinetuneJob)}
JOBS = [
    pytest.param(job, id=f"{file.stem}-{job['metadata']['name']}")
    for file in FILES
    for job in YAML(typ="safe", pure=True).load_all(file)
]


@pytest.mark.parametrize("job", JOBS)
def test_an_example_is_accepted(job: dict[str, Any]) -> None:
    spec = parse(job).spec
    server = SERVERS[job["kind"]]
    assert server.unknown_fields(job) == []
    assert server.refusals(job) == {}
    if spec.model.architecture is not None:
        from pretune_trainer.model.configuration import make_config

        vocabulary = spec.tokenizer.train.vocab_size if spec.tokenizer and spec.tokenizer.train else None
        make_config(spec.model.architecture, vocabulary, spec.data.sequence_length, {})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_brings_the_jobs_that_it_starts_from(file: Path) -> None:
    jobs = [parse(job) for job in YAML(typ="safe", pure=True).load_all(file)]
    made = {f"{job.kind}/{job.metadata.name}" for job in jobs}
    assert {parent.job for job in jobs for parent in job.spec.parents() if parent.job} <= made
