"""The three lists of bad specs: who refuses what, where, and in which words."""

from typing import Any

import pytest

from pretune_api import FinetuneJob, PretrainJob
from pretune_api.problems import parse
from support.api_server import ApiServer
from support.specs import FINETUNE, PRETRAIN, listed, problems

Document = dict[str, Any]

SERVERS = {"PretrainJob": ApiServer(PretrainJob), "FinetuneJob": ApiServer(FinetuneJob)}


def place(sentence: str) -> str:
    return sentence.partition(": ")[0]


@pytest.mark.parametrize("document", [PRETRAIN, FINETUNE], ids=["pretrain", "finetune"])
def test_the_jobs_that_the_lists_start_from_are_accepted_by_everybody(document: Document) -> None:
    server = SERVERS[document["kind"]]
    parse(document)
    assert server.unknown_fields(document) == []
    assert server.refusals(document) == {}


@pytest.mark.parametrize(("document", "says"), listed("refused_by_both"))
def test_the_models_refuse_it_with_its_sentence(document: Document, says: str) -> None:
    assert problems(document) == [says]


@pytest.mark.parametrize(("document", "says"), listed("refused_by_both"))
def test_the_api_server_refuses_it_at_the_same_path_and_a_rule_in_the_same_words(document: Document, says: str) -> None:
    server = SERVERS[document["kind"]]
    ((path, message),) = server.refusals(document).items()
    assert path == place(says)
    assert message not in server.rule_messages or says == f"{path}: {message}"


def test_every_rule_is_broken_by_a_listed_spec() -> None:
    broken = {message for entry in listed("refused_by_both") for message in refused(entry.values[0])}
    for server in SERVERS.values():
        assert {message for message in server.rule_messages if not message.startswith("cannot be changed")} <= broken


def refused(document: Document) -> set[str]:
    return set(SERVERS[document["kind"]].refusals(document).values())


@pytest.mark.parametrize(("document", "says"), listed("refused_by_decoding"))
def test_the_models_refuse_an_unknown_field_and_name_the_nearest(document: Document, says: str) -> None:
    assert problems(document) == [says]


@pytest.mark.parametrize(("document", "says"), listed("refused_by_decoding"))
def test_strict_decoding_refuses_an_unknown_field(document: Document, says: str) -> None:
    assert SERVERS[document["kind"]].unknown_fields(document) == [place(says)]


@pytest.mark.parametrize("document", [entry.values[0] for entry in listed("refused_at_preflight")])
def test_what_only_transformers_knows_is_left_to_preflight(document: Document) -> None:
    server = SERVERS[document["kind"]]
    parse(document)
    assert server.unknown_fields(document) == []
    assert server.refusals(document) == {}
