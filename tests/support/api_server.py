"""What the API server does with a custom resource, in so far as our definitions use it; written for these tests.

The same lists are put before a real API server where there is one.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import cel
from jsonschema import Draft4Validator
from jsonschema.exceptions import ValidationError

from pretune_api.jobs import JobModel
from pretune_api.schema import openapi

Schema = dict[str, Any]

METADATA: Schema = {
    "namespace": {},
    "labels": {"additionalProperties": {}},
    "annotations": {"additionalProperties": {}},
}
"""Fields of every resource's metadata, known without being in a definition."""


class ApiServer:
    """Decodes, defaults and validates resources of one kind."""

    def __init__(self, kind: JobModel) -> None:
        self.schema = openapi(kind)

    @property
    def rule_messages(self) -> set[str]:
        """The sentences of all CEL rules."""
        return set(_messages(self.schema))

    def unknown_fields(self, document: dict[str, Any]) -> list[str]:
        """Paths that strict decoding refuses."""
        return [path.lstrip(".") for path in _unknown(self.schema, document, "")]

    def defaulted(self, document: dict[str, Any]) -> dict[str, Any]:
        """The document as it is stored: without nulls that stand for nothing, with defaults."""
        document = deepcopy(document)
        _default(self.schema, document)
        return document

    def refusals(self, document: dict[str, Any], old: dict[str, Any] | None = None) -> dict[str, str]:
        """Messages by path; with `old`, of an update. Rules are asked once the schema is content."""
        document = self.defaulted(document)
        wrong = dict(_schema_errors(self.schema, document))
        return wrong or dict(_broken_rules(self.schema, document, self.defaulted(old) if old else None, ""))


def _messages(schema: Schema) -> Iterator[str]:
    yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", ()))
    for inner in schema.get("properties", {}).values():
        yield from _messages(inner)
    if "items" in schema:
        yield from _messages(schema["items"])


def _unknown(schema: Schema, value: Any, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(schema.get("items", {}), item, f"{path}[{index}]")
    if not isinstance(value, dict) or "additionalProperties" in schema:
        return
    properties = schema.get("properties", {}) | (METADATA if path == ".metadata" else {})
    for name, item in value.items():
        if name in properties:
            yield from _unknown(properties[name], item, f"{path}.{name}")
        else:
            yield f"{path}.{name}"


def _default(schema: Schema, value: Any) -> None:
    for item in value if isinstance(value, list) else ():
        _default(schema.get("items", {}), item)
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if value.get(name, ...) is None and not inner.get("nullable"):
                del value[name]
            if "default" in inner:
                value.setdefault(name, deepcopy(inner["default"]))
            if name in value:
                _default(inner, value[name])


def _schema_errors(schema: Schema, document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for error in Draft4Validator(_with_nulls(schema)).iter_errors(document):
        yield _path(error), error.message
    yield from _twins(schema, document, "")


def _path(error: ValidationError) -> str:
    """Where the error is; of a field that is missing, where it should be."""
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    missing = "." + error.message.split("'")[1] if error.validator == "required" else ""
    return f"{steps}{missing}".removeprefix(".")


def _with_nulls(schema: Any) -> Any:
    """OpenAPI's nullable in JSON Schema's words."""
    if isinstance(schema, list):
        return [_with_nulls(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _with_nulls(value) for key, value in schema.items()}
    return found | {"type": [found["type"], "null"]} if found.get("nullable") is True and "type" in found else found


def _twins(schema: Schema, value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Values that stand twice in a list of type set."""
    if schema.get("x-kubernetes-list-type") == "set" and isinstance(value, list):
        yield from ((path, f"Duplicate value: {item}") for index, item in enumerate(value) if item in value[:index])
    for inner, item, at in _children(schema, value, path):
        yield from _twins(inner, item, at)


def _broken_rules(schema: Schema, value: Any, old: Any, path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        names = {"self": value} | ({"oldSelf": old} if old is not None else {})
        if ("oldSelf" not in rule["rule"] or old is not None) and not cel.evaluate(rule["rule"], names):
            yield f"{path}{rule.get('fieldPath', '')}", rule["message"]
    for inner, item, at in _children(schema, value, path):
        name = at.rpartition(".")[2]
        yield from _broken_rules(inner, item, old.get(name) if isinstance(old, dict) else None, at)


def _children(schema: Schema, value: Any, path: str) -> Iterator[tuple[Schema, Any, str]]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield schema.get("items", {}), item, f"{path}[{index}]"
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name in value:
                yield inner, value[name], f"{path}.{name}".removeprefix(".")
