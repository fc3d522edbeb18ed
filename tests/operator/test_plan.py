"""A job and its resolved inputs become one run config, whole and without anything left to look up."""

import json
from typing import Any

import pytest
from hypothesis import given, settings

from pretune_api.compute import Compute
from pretune_api.problems import parse
from pretune_api.run_config import Folder, RunConfig
from pretune_operator.plan import Inputs, UnresolvedInputError, plan, ranks_of
from support.any_job import documents
from support.specs import FINETUNE, PRETRAIN, changed

DIGEST = f"sha256:{'a' * 64}"
GENERAL = Folder(uri="s3://models/general", digest=DIGEST, job="PretrainJob/general")
DOMAIN = Folder(uri="s3://models/domain", digest=DIGEST, job="FinetuneJob/domain")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def planned(document: dict[str, Any], **artifacts: Folder) -> RunConfig:
    """The run config, where `artifacts` are known by KIND_NAME."""
    by_job = {name.replace("_", "/"): folder for name, folder in artifacts.items()}
    return plan(parse(document), Inputs(uid="0123abcd", namespace="team", ranks=4, device="cuda", artifacts=by_job))


def test_a_pretrain_job_from_scratch_trains_every_weight_towards_its_objective() -> None:
    config = planned(PRETRAIN)
    assert config.stage == "causalLM"
    assert config.method.kind == "full"
    assert config.model.architecture is not None
    assert config.model.architecture.config == {"hidden_size": 64}
    assert config.tokenizer is not None
    assert config.tokenizer.train is not None
    assert config.tokenizer.train.vocab_size == 512
    assert (config.ranks, config.device) == (4, "cuda")


def test_a_job_knows_its_own_folder() -> None:
    assert planned(PRETRAIN).job.folder == "team/pretrainjob-general-0123abcd"


def test_a_parents_artifact_brings_weights_and_tokenizer() -> None:
    config = planned(changed(FINETUNE, {"spec.method": {"lora": {}}}), PretrainJob_general=GENERAL)
    assert config.stage == "sequenceClassification"
    assert config.method.kind == "lora"
    assert config.model.parent is not None
    assert config.model.parent.folder == GENERAL
    assert config.tokenizer is not None
    assert config.tokenizer.parent == config.model.parent


def test_a_tokenizer_may_come_from_another_job_than_the_weights() -> None:
    document = changed(FINETUNE, {"spec.tokenizer": {"from": {"finetuneJob": "domain"}}})
    config = planned(document, PretrainJob_general=GENERAL, FinetuneJob_domain=DOMAIN)
    assert config.model.parent is not None
    assert config.model.parent.folder == GENERAL
    assert config.tokenizer is not None
    assert config.tokenizer.parent is not None
    assert config.tokenizer.parent.folder == DOMAIN


def test_a_new_architecture_may_borrow_a_tokenizer() -> None:
    document = changed(PRETRAIN, {"spec.tokenizer": {"from": {"pretrainJob": "other"}}})
    config = planned(document, PretrainJob_other=GENERAL)
    assert config.model.architecture is not None
    assert config.tokenizer is not None
    assert config.tokenizer.parent is not None
    assert config.tokenizer.parent.folder == GENERAL


def test_a_continued_model_may_train_a_tokenizer_of_its_own() -> None:
    config = planned(changed(FINETUNE, {"spec.tokenizer": {"train": {}}}), PretrainJob_general=GENERAL)
    assert config.tokenizer is not None
    assert config.tokenizer.train is not None
    assert config.tokenizer.parent is None


def test_a_tokenizer_that_is_adapted_is_that_of_the_weights() -> None:
    document = changed(FINETUNE, {"spec.tokenizer": {"adapt": {"tokens": 300, "sampleDocuments": 200}}})
    tokenizer = planned(document, PretrainJob_general=GENERAL).tokenizer
    assert tokenizer is not None
    adapted = tokenizer.adapt
    assert adapted is not None
    assert (adapted.parent.folder, adapted.tokens, adapted.sample_documents) == (GENERAL, 300, 200)


def test_a_folder_keeps_the_digest_that_it_was_given_with() -> None:
    config = planned(changed(FINETUNE, {"spec.model": {"from": {"uri": "s3://models/base", "digest": DIGEST}}}))
    assert config.model.parent is not None
    assert config.model.parent.folder == Folder(uri="s3://models/base", digest=DIGEST)


def test_a_hub_model_stays_pinned() -> None:
    config = planned(changed(FINETUNE, {"spec.model": {"from": {"hub": {"repo": "org/name", "revision": COMMIT}}}}))
    assert config.model.parent is not None
    assert config.model.parent.hub is not None
    assert config.model.parent.hub.revision == COMMIT
    assert config.tokenizer is not None
    assert config.tokenizer.parent == config.model.parent


def test_a_parent_without_an_artifact_is_no_input_yet() -> None:
    with pytest.raises(UnresolvedInputError, match="PretrainJob/general has no artifact yet"):
        planned(FINETUNE, FinetuneJob_general=DOMAIN)


def test_a_trainer_older_than_the_operator_understands_a_job_that_says_nothing_new() -> None:
    class Newer(RunConfig):
        novelty: int = 3
        model_to_imitate: str | None = None

    config = planned(PRETRAIN)
    assert RunConfig.model_validate_json(Newer(**dict(config)).told()) == config


def test_a_trainer_is_always_told_the_version_of_its_orders_and_no_task_but_the_jobs() -> None:
    said = json.loads(planned(changed(FINETUNE, {"spec.model": {"from": {"uri": "s3://models/base"}}})).told())
    assert said["version"] == 1
    assert said["task"] == {"sequenceClassification": {"labels": ["science", "web"]}}


def test_text_of_any_language_is_told_as_it_is_written() -> None:
    task = {"sequenceClassification": {"labels": ["政治", "Küche"]}}
    config = planned(changed(FINETUNE, {"spec.task": task, "spec.model": {"from": {"uri": "s3://models/base"}}}))
    assert '"labels": ["政治", "Küche"]' in config.told(), "escapes would double what annotations have room for"


def test_ranks_are_gpus_or_workers_where_there_are_none() -> None:
    assert ranks_of(Compute(workers=3, gpus_per_worker=8)) == 24
    assert ranks_of(Compute(workers=3, gpus_per_worker=0)) == 3


@settings(max_examples=40)
@given(documents())
def test_any_job_is_planned_and_its_run_config_survives_being_json(document: dict[str, Any]) -> None:
    job = parse(document)
    artifacts = {parent.job: GENERAL for parent in job.spec.parents() if parent.job}
    config = plan(job, Inputs(uid="0123abcd", namespace="team", ranks=1, device="cpu", artifacts=artifacts))
    assert RunConfig.model_validate_json(config.told()) == config
    assert (config.data, config.training, config.storage) == (job.spec.data, job.spec.training, job.spec.storage)
    assert config.stage == job.spec.stage
