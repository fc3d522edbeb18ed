"""A bad document is told everything that is wrong with it, at once, in words that say what would be right."""

import math
from typing import Any

import pytest

from pretune_api.problems import parse
from support.specs import FINETUNE, PRETRAIN, changed, problems


def test_all_problems_are_told_at_once_however_different() -> None:
    document = changed(
        PRETRAIN,
        {
            "spec.traning": {},
            "spec.storage": None,
            "spec.training.maxSteps": "10",
            "spec.training.examplesPerStep": 8,
            "spec.tokenizer": None,
            "spec.data.train[0].weight": -1,
            "spec.model.from": {"hub": {"repo": "a b", "revision": "0" * 40}},
        },
    )
    assert sorted(problems(document)) == [
        "spec.data.train[0].weight: -1 is too small; write more than 0.0",
        'spec.model.from.hub.repo: "a b" is invalid; write ORG/NAME',
        "spec.model: set exactly one of architecture, from",
        "spec.storage: is missing (Where the job's checkpoints, artifact and logs are stored)",
        'spec.training.maxSteps: "10" is text, expected a whole number; remove the quotes',
        "spec.training: set exactly one of tokensPerStep and examplesPerStep",
        "spec.traning: unknown field; did you mean training?",
        "spec: a model from scratch needs a tokenizer; set tokenizer.train or tokenizer.from",
    ]


def test_a_field_that_does_not_exist_is_told_when_it_holds_nothing_too() -> None:
    document = changed(PRETRAIN, {"spec.training.maxSteps": 10})
    document["spec"]["training"]["000"] = None  # {maxSteps: 10,000} is a field, and nothing in another one
    [problem] = problems(document)
    assert problem.startswith("spec.training.000: unknown field; known: tokensPerStep")


def test_a_field_of_a_wrong_type_counts_as_set_so_that_no_second_problem_is_made_up() -> None:
    document = changed(PRETRAIN, {"spec.training.tokensPerStep": "many", "spec.evaluation": "often"})
    assert [sentence.partition(":")[0] for sentence in problems(changed(document, {"spec.earlyStopping": {}}))] == [
        "spec.training.tokensPerStep",
        "spec.evaluation",
    ]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "a job is a mapping with apiVersion, kind, metadata and spec, not []"),
        ("text", 'a job is a mapping with apiVersion, kind, metadata and spec, not "text"'),
        ({}, "kind: is missing"),
        ({"kind": "ConfigMap"}, 'kind: unknown kind "ConfigMap"; known: PretrainJob, FinetuneJob'),
        ({"kind": "FineTuneJob"}, 'kind: unknown kind "FineTuneJob"; did you mean FinetuneJob?'),
        ({"kind": ["a"]}, 'kind: unknown kind ["a"]; known: PretrainJob, FinetuneJob'),
        ({"kind": "PretrainJob"}, "apiVersion: is missing; write pretune.dev/v1alpha1"),
        (
            {"kind": "PretrainJob", "apiVersion": "pretune.dev/v1"},
            'apiVersion: "pretune.dev/v1" is not supported; write pretune.dev/v1alpha1',
        ),
    ],
)
def test_what_is_no_job_of_ours_is_told_so(document: object, says: str) -> None:
    assert problems(document) == [says]


def test_an_empty_job_is_told_what_it_lacks() -> None:
    document = {"apiVersion": "pretune.dev/v1alpha1", "kind": "FinetuneJob"}
    assert problems(document) == [
        "metadata: is missing (Name and namespace)",
        "spec: is missing (Desired state of the job)",
    ]


@pytest.mark.parametrize(("written", "read"), [(1e4, 10_000), (262144.0, 262_144), (7, 7)])
def test_a_whole_number_may_be_written_with_an_exponent_because_json_has_one_kind_of_number(
    written: float, read: int
) -> None:
    steps = parse(changed(PRETRAIN, {"spec.training.maxSteps": written})).spec.training.max_steps
    assert steps == read
    assert isinstance(steps, int)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_what_is_no_finite_number_is_refused(value: float) -> None:
    (sentence,) = problems(changed(PRETRAIN, {"spec.training.learningRate": value}))
    assert sentence.endswith("is not a finite number")


def test_a_long_value_is_quoted_in_part() -> None:
    (sentence,) = problems(changed(PRETRAIN, {"spec.storage.region": "x" * 1000}))
    assert sentence == f'spec.storage.region: "{"x" * 59}… is too long; write 64 or fewer characters'


def test_python_names_are_no_names_of_the_api() -> None:
    assert problems(changed(FINETUNE, {"spec.early_stopping": {}})) == [
        "spec.early_stopping: unknown field; did you mean earlyStopping?"
    ]


def test_an_architecture_is_free_to_hold_what_transformers_takes() -> None:
    config: dict[str, Any] = {
        "rope_scaling": {"type": "linear", "factor": 2.5},
        "layer_types": ["full", None],
        "x": None,
    }
    job = parse(changed(PRETRAIN, {"spec.model.architecture.config": config}))
    assert job.spec.model.architecture is not None
    assert job.spec.model.architecture.config == config


def test_an_architecture_is_not_nested_without_end() -> None:
    config: Any = 1
    for _ in range(17):
        config = {"x": [config]} if isinstance(config, int) else {"x": config}
    assert problems(changed(PRETRAIN, {"spec.model.architecture.config": config})) == [
        "spec.model.architecture.config: is nested too deeply; use 16 levels or fewer"
    ]


def test_a_document_is_not_nested_without_end() -> None:
    spec: list[Any] = []
    for _ in range(150):
        spec = [spec]
    assert problems(changed(PRETRAIN, {"spec": spec})) == ["the document is nested too deeply; use 100 levels or fewer"]


def test_the_document_that_was_given_is_left_as_it_was() -> None:
    document = changed(PRETRAIN, {"spec.earlyStopping": None, "spec.training.maxSteps": 1e1})
    before = repr(document)
    parse(document)
    assert repr(document) == before


def test_a_choice_with_nothing_after_its_colon_is_told_what_to_write() -> None:
    (problem,) = problems(changed(PRETRAIN, {"spec.objective": {"causalLM": None}}))
    assert problem.startswith("spec.objective: set exactly one of causalLM, maskedLM, denoising, ")
    assert problem.endswith("; write {} to use its defaults")
    assert parse(changed(PRETRAIN, {"spec.objective": {"causalLM": {}}})).spec.stage == "causalLM"
