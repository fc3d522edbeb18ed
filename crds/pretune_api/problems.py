"""From a raw document to a job, or to everything that is wrong with it, at once and in words.

A document is read as the API server reads it: unknown fields are refused (`kubectl` decodes strictly), nulls are
absence, types are strict (a quoted number is no number), and the same bounds and rules hold.
"""

import json
from collections.abc import Iterator
from typing import Any, Final, get_args

from pydantic import ValidationError

from pretune_api.base import RULE_ERROR, Rule, Spec
from pretune_api.fields import field_model, places, python_names, suggestion
from pretune_api.jobs import FinetuneJob, Job, JobModel, PretrainJob
from pretune_api.names import API_VERSION
from pretune_api.sentences import sentence, shown

KINDS: Final[dict[str, JobModel]] = {
    "PretrainJob": PretrainJob,
    "FinetuneJob": FinetuneJob,
}

_TOLD_ELSEWHERE: Final = {RULE_ERROR, "extra_forbidden"}
_DEEPEST: Final = 100
"""Levels of lists and mappings in a document; pydantic reads up to 200."""


class InvalidJobError(Exception):
    """A document that is no valid job."""

    def __init__(self, problems: list[str]) -> None:
        """`problems` are sentences, each after the path of the field that it is about."""
        super().__init__("\n".join(problems))
        self.problems = problems


def parse(document: object) -> Job:
    """The job that a raw document describes.

    Raises:
        InvalidJobError: with every problem of the document.
    """
    document = _as_json(document)
    if not isinstance(document, dict):
        raise InvalidJobError([f"a job is a mapping with apiVersion, kind, metadata and spec, not {shown(document)}"])
    model = _model_of(document)
    _drop_nulls(model, document)
    problems = [*_unknown_fields(model, document), *_wrong_values(model, document), *_broken_rules(model, document)]
    if problems:
        raise InvalidJobError(problems)
    return _validated(model, document)


def _model_of(document: dict[str, Any]) -> JobModel:
    kind, version = document.get("kind"), document.get("apiVersion")
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        said = f"unknown kind {shown(kind)}; {suggestion(KINDS, str(kind))}" if kind else "is missing"
        raise InvalidJobError([f"kind: {said}"])
    if version != API_VERSION:
        said = f"{shown(version)} is not supported" if version else "is missing"
        raise InvalidJobError([f"apiVersion: {said}; write {API_VERSION}"])
    return model


def _as_json(value: object, level: int = 0) -> object:
    """The value as JSON carries it to the API server: keys are text, and 1e4 is the whole number 10000."""
    if level > _DEEPEST:
        raise InvalidJobError([f"the document is nested too deeply; use {_DEEPEST} levels or fewer"])
    match value:
        case dict():
            items = ((key if isinstance(key, str) else json.dumps(key), item) for key, item in value.items())
            return {key: _as_json(item, level + 1) for key, item in items}
        case list():
            return [_as_json(item, level + 1) for item in value]
        case float() if value.is_integer():
            return int(value)
    return value


def _drop_nulls(model: type[Spec], document: dict[str, Any]) -> None:
    """Take out what the API server takes out: nulls of fields that it knows, but where null is a choice beside another
    default."""
    for place in list(places(model, document)):
        for name in [name for name in python_names(place.model) if name in place.value and place.value[name] is None]:
            if not _null_is_a_choice(place.model, name):
                del place.value[name]


def _null_is_a_choice(model: type[Spec], name: str) -> bool:
    field = model.model_fields.get(python_names(model).get(name, ""))
    return field is not None and field.default is not None and type(None) in get_args(field.annotation)


def _unknown_fields(model: type[Spec], document: dict[str, Any]) -> Iterator[str]:
    for place in places(model, document):
        names = python_names(place.model)
        for name in [name for name in place.value if name not in names]:
            yield f"{place.at(name)}: unknown field; {suggestion(names, name)}"


def _broken_rules(model: type[Spec], document: dict[str, Any]) -> Iterator[str]:
    """Rules are judged on what is there, also when other fields are wrong."""
    for place in places(model, document):
        instance = _unchecked(place.model, place.value)
        for rule in place.model.all_rules():
            if not _holds(rule, instance):
                yield f"{place.at(rule.field) if rule.field else place.path}: {rule.message}"


def _holds(rule: Rule, instance: Spec) -> bool:
    try:
        return rule.holds(instance)
    except (AttributeError, TypeError):  # a field that the rule reads is missing or of a wrong type, and told elsewhere
        return True


def _unchecked(model: type[Spec], value: dict[str, Any]) -> Spec:
    """An instance with whatever the fields hold, and defaults for those that are absent."""
    names = python_names(model)
    fields: dict[str, Any] = {
        names[name]: _unchecked_value(field_model(model, name), item) for name, item in value.items() if name in names
    }
    return model.model_construct(**fields)


def _unchecked_value(model: type[Spec] | None, value: object) -> object:
    if model is not None and isinstance(value, list):
        return [_unchecked_value(model, item) for item in value]
    return _unchecked(model, value) if model is not None and isinstance(value, dict) else value


def _validated(model: JobModel, document: dict[str, Any]) -> Job:
    return model.model_validate_json(json.dumps(document), strict=True, by_alias=True, by_name=False)


def _wrong_values(model: JobModel, document: dict[str, Any]) -> Iterator[str]:
    try:
        _validated(model, document)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            if details["type"] not in _TOLD_ELSEWHERE:
                yield f"{_path(details['loc'])}: {sentence(details, model)}"


def _path(location: tuple[int | str, ...]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".")
