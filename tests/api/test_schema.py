"""The definitions that Kubernetes is given say what the models say."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from pretune_api import FinetuneJob, PretrainJob, schema
from pretune_api.base import OneOf, Spec
from pretune_api.fields import field_model
from pretune_api.jobs import JobModel
from pretune_api.problems import parse
from pretune_api.status import Status
from support.api_server import ApiServer
from support.specs import FINETUNE, PRETRAIN, changed

Node = dict[str, Any]

KINDS: dict[str, type[PretrainJob] | type[FinetuneJob]] = {"PretrainJob": PretrainJob, "FinetuneJob": FinetuneJob}

both_kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
both_jobs = pytest.mark.parametrize("job", [PRETRAIN, FINETUNE], ids=["pretrain", "finetune"])


def nodes(node: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    """Every schema inside a schema that says what it is of, by path."""
    yield path, node
    for name, inner in node.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in node and "x-kubernetes-preserve-unknown-fields" not in node[name]:
            yield from nodes(node[name], f"{path}[]")


def models(model: type[Spec]) -> Iterator[type[Spec]]:
    """Every model that `model` is made of."""
    yield model
    for name in model.model_fields:
        inner = field_model(model, model.alias(name))
        if inner:
            yield from models(inner)


def server(job: Node) -> ApiServer:
    return ApiServer(KINDS[job["kind"]])


def test_the_files_in_crds_are_those_of_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert schema.main(["--check"]) == 0
    assert capsys.readouterr().err == ""


def test_a_stale_file_is_named_and_then_written_anew(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = (tmp_path / "crds", tmp_path / "chart")
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr(schema, "FOLDERS", folders)
    monkeypatch.setattr(schema, "REFERENCE", tmp_path / "api.md")
    assert schema.main(["--check"]) == 1
    assert "finetunejobs.pretune.dev.yaml differ from the models" in capsys.readouterr().err
    assert schema.main([]) == 0
    assert schema.main(["--check"]) == 0


@both_kinds
def test_a_schema_is_structural(kind: JobModel) -> None:
    forbidden = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "discriminator", "title", "examples"}
    for path, node in nodes(schema.openapi(kind)):
        assert not forbidden & node.keys(), path
        assert node["type"] in {"object", "array", "string", "integer", "number", "boolean"}, path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert all(isinstance(node.get(key, True), bool) for key in ("exclusiveMinimum", "exclusiveMaximum")), path


@both_kinds
def test_every_field_says_what_it_is(kind: JobModel) -> None:
    silent = [
        path
        for path, node in nodes(schema.openapi(kind))
        if not path.startswith(".metadata") and not path.endswith("[]") and not node.get("description")
    ]
    assert silent == []


@both_kinds
def test_everything_a_person_writes_is_bounded(kind: JobModel) -> None:
    bound = {"string": "maxLength", "array": "maxItems", "integer": "maximum", "number": "maximum"}
    for path, node in nodes(schema.openapi(kind)["properties"]["spec"]):
        assert "enum" in node or bound.get(node["type"], "type") in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path


@both_kinds
def test_numbers_have_a_format_that_holds_them(kind: JobModel) -> None:
    for path, node in nodes(schema.openapi(kind)):
        if node["type"] == "integer":
            small = node.get("maximum", 2**31) < 2**31
            assert node["format"] == ("int32" if small else "int64"), path
        if node["type"] == "number":
            assert node["format"] == "double", path


@both_kinds
def test_every_rule_of_every_model_is_in_the_schema(kind: JobModel) -> None:
    told = {
        (rule["rule"], rule["message"])
        for _, node in nodes(schema.openapi(kind))
        for rule in node.get("x-kubernetes-validations", ())
    }
    for model in models(kind):
        assert {(rule.cel, rule.message) for rule in model.all_rules()} <= told, model
        assert not issubclass(model, OneOf) or model.all_rules(), model


@both_kinds
def test_a_definition_names_short_names_category_columns_and_status(
    kind: JobModel,
) -> None:
    spec = schema.definition(kind)["spec"]
    (version,) = spec["versions"]
    assert spec["names"]["shortNames"] == ["ptj" if kind is PretrainJob else "ftj"]
    assert spec["names"]["categories"] == ["pretune"]
    assert [column["name"] for column in version["additionalPrinterColumns"]] == [
        "State",
        "Stage",
        "Progress",
        "Attempts",
        "Age",
    ]
    assert version["subresources"] == {"status": {}}


@both_kinds
def test_every_column_shows_a_field_that_exists(kind: JobModel) -> None:
    known = {path for path, _ in nodes(schema.openapi(kind))} | {".metadata.creationTimestamp"}
    (version,) = schema.definition(kind)["spec"]["versions"]
    assert {column["jsonPath"] for column in version["additionalPrinterColumns"]} <= known


def test_conditions_are_merged_by_type() -> None:
    conditions = schema.openapi(PretrainJob)["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert "conditions" in Status.model_fields


@both_jobs
def test_defaults_of_the_api_server_are_those_of_the_models(job: Node) -> None:
    stored = server(job).defaulted(job)
    assert stored["spec"]["training"]["learningRate"] == 3e-4
    assert stored["spec"]["checkpoint"] == {"everySteps": 500, "keep": 3}
    assert parse(stored) == parse(job)


@both_jobs
def test_null_keeps_its_meaning_where_it_is_a_choice_and_is_absence_elsewhere(job: Node) -> None:
    document = changed(job, {"spec.training.gradientClip": None, "spec.training.learningRate": None})
    assert server(job).refusals(document) == {}
    for training in (parse(document).spec.training, parse(server(job).defaulted(document)).spec.training):
        assert training.gradient_clip is None
        assert training.learning_rate == 3e-4


CHANGES = {
    "task": {"chat": {}},
    "method": {"lora": {}},
    "model": {"from": {"finetuneJob": "another"}},
    "tokenizer": {"from": {"finetuneJob": "another"}},
    "data": {"train": [{"uri": "s3://corpora/other/"}]},
    "training": {"tokensPerStep": 7, "epochs": 1},
    "evaluation": {"everySteps": 7},
    "earlyStopping": {"patience": 7},
    "checkpoint": {"keep": 7},
    "storage": {"uri": "s3://models/other"},
}
FREE = {
    "compute": {"workers": 4},
    "failurePolicy": {"backoffSeconds": 1},
    "tracking": {"mlflow": {"uri": "https://mlflow.test"}},
    "preflight": True,
    "suspend": True,
    "retry": 1,
    "activeDeadlineSeconds": 60,
    "ttlSecondsAfterFinished": 60,
}


@both_jobs
def test_what_shapes_the_model_cannot_change_and_each_such_field_is_tried(job: Node) -> None:
    spec = field_model(KINDS[job["kind"]], "spec")
    assert spec is not None
    for name in {spec.alias(field) for field in spec.model_fields} - FREE.keys() - {"objective"}:
        new = deepcopy(job)
        new["spec"][name] = CHANGES[name]
        assert server(job).refusals(new, old=job)[f"spec.{name}"].startswith("cannot be changed"), name


@both_jobs
def test_a_field_that_comes_or_goes_has_changed_too(job: Node) -> None:
    with_tokenizer = changed(job, {"spec.tokenizer": {"train": {}}})
    without = changed(job, {"spec.tokenizer": None, "spec.model": {"from": {"pretrainJob": "other"}}})
    for new, old in ((without, with_tokenizer), (with_tokenizer, without)):
        assert server(job).refusals(new, old=old)["spec.tokenizer"].startswith("cannot be changed")


@both_jobs
def test_machines_and_lifecycle_may_change_and_so_may_how_a_default_is_written(job: Node) -> None:
    for name, value in FREE.items():
        assert server(job).refusals(changed(job, {f"spec.{name}": value}), old=job) == {}, name
    assert server(job).refusals(changed(job, {"spec.checkpoint": {"keep": 3}}), old=job) == {}
