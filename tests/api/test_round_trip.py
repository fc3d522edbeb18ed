"""A job survives being written and read, whatever it holds."""

from io import StringIO
from typing import Any

from hypothesis import given, settings
from ruamel.yaml import YAML

from pretune_api import FinetuneJob, PretrainJob
from pretune_api.problems import parse
from pretune_cli import yaml
from support.any_job import documents
from support.api_server import ApiServer

SERVERS = {"PretrainJob": ApiServer(PretrainJob), "FinetuneJob": ApiServer(FinetuneJob)}


TRUTHS = {"y", "n", "yes", "no", "on", "off"}


def written_and_read(value: object) -> object:
    """The value after it has been YAML. ruamel, which writes 1.2, leaves out quotes that kubectl's 1.1 needs."""
    stream = StringIO()
    writer = YAML()
    writer.representer.add_representer(str, _text)
    writer.dump(value, stream)
    (found,) = yaml.documents_of(stream.getvalue(), "job.yaml")
    return found


def _text(representer: Any, text: str) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style='"' if text.lower() in TRUTHS else None)


@settings(max_examples=60)
@given(documents())
def test_a_valid_job_written_as_yaml_is_read_as_the_same_job(document: dict[str, Any]) -> None:
    job = parse(document)
    assert parse(written_and_read(document)) == job
    assert parse(written_and_read(job.model_dump(mode="json"))) == job
    assert parse(written_and_read(job.model_dump(mode="json", exclude_unset=True))) == job
    assert parse(written_and_read(job.brief())) == job


@settings(max_examples=60)
@given(documents())
def test_what_the_models_accept_the_api_server_accepts_and_stores_as_the_same_job(document: dict[str, Any]) -> None:
    server = SERVERS[document["kind"]]
    assert server.unknown_fields(document) == []
    assert server.refusals(document) == {}
    assert parse(server.defaulted(document)) == parse(document)
