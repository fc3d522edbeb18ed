"""From the models to the CustomResourceDefinitions in crds/: structural schemas, CEL rules, printer columns.

`python -m pretune_api.schema` writes them, and docs/api.md; with --check it only says whether they are up to date.
"""

import sys
from io import SEEK_END, StringIO
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema
from ruamel.yaml import YAML

from pretune_api import reference
from pretune_api.base import Rule, Spec
from pretune_api.jobs import FinetuneJob, JobModel, JobSpec, PretrainJob
from pretune_api.names import GROUP, VERSION

_ROOT: Final = Path(__file__).parents[2]
FOLDERS: Final = (_ROOT / "crds", _ROOT / "charts/pretune/files/crds")
"""Where the generated definitions lie: the chart has copies, since it must hold all that it installs."""
REFERENCE: Final = _ROOT / "docs/api.md"
"""Where the generated reference lies."""

_SHORT_NAMES: Final[dict[JobModel, str]] = {PretrainJob: "ptj", FinetuneJob: "ftj"}

_COLUMNS: Final = [
    {"name": "State", "type": "string", "jsonPath": ".status.state", "description": "Summary of the conditions."},
    {"name": "Stage", "type": "string", "jsonPath": ".status.stage", "description": "The job's objective or task."},
    {
        "name": "Progress",
        "type": "integer",
        "jsonPath": ".status.progress.percent",
        "description": "Percentage of the steps that are completed.",
    },
    {
        "name": "Attempts",
        "type": "integer",
        "jsonPath": ".status.attemptCount",
        "description": "Number of attempts created so far.",
    },
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]

_INT32_MAX: Final = 2**31 - 1
_COMPARED_LEVELS: Final = 4
"""Of mappings in free-form mappings: as deep as the models of transformers nest their configurations, and one more."""


def definition(job: JobModel) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    kind = job.__name__
    plural = f"{kind.lower()}s"
    names = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": kind.lower(),
        "shortNames": [_SHORT_NAMES[job]],
        "categories": ["pretune"],
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": _COLUMNS,
        "schema": {"openAPIV3Schema": openapi(job)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def openapi(job: JobModel) -> dict[str, Any]:
    """The structural schema of a kind, rules included."""
    found = job.model_json_schema(mode="validation", schema_generator=_Generator)
    schema = _structural(found, found.pop("$defs"))
    name = schema["properties"]["metadata"]["properties"]["name"]
    schema["properties"]["metadata"] = {"type": "object", "properties": {"name": name}}
    schema["required"] = ["metadata", "spec"]
    for owned_by_kubernetes in ("apiVersion", "kind"):
        del schema["properties"][owned_by_kubernetes]["enum"], schema["properties"][owned_by_kubernetes]["default"]
    return schema


class _Generator(GenerateJsonSchema):
    """pydantic's generator, with the models' rules, and with defaults as short as a person writes them."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        model = schema["cls"]
        if issubclass(model, Spec) and (validations := _validations(model)):
            found["x-kubernetes-validations"] = validations
        return found

    def encode_default(self, dft: Any) -> Any:  # pydantic's signature
        if isinstance(dft, BaseModel):
            return dft.model_dump(mode="json", exclude_defaults=True)
        return super().encode_default(dft)


def _validations(model: type[Spec]) -> list[dict[str, Any]]:
    rules = [_validation(rule) for rule in model.all_rules()]
    if issubclass(model, JobSpec):
        rules += [_immutable(model, name) for name in model.model_fields if name not in model.mutable]
    return rules


def _validation(rule: Rule) -> dict[str, Any]:
    found = {"rule": rule.cel, "message": rule.message}
    return found | {"fieldPath": f".{rule.field}"} if rule.field else found


def _immutable(model: type[Spec], name: str) -> dict[str, Any]:
    """Compared from above, because a rule of the field itself is not asked when the field comes or goes."""
    field, now, before = model.alias(name), f"self.{model.alias(name)}", f"oldSelf.{model.alias(name)}"
    always_there = model.model_fields[name].get_default() is not None
    same = f"{now} == {before}"
    return {
        "rule": same if always_there else f"has({now}) ? has({before}) && {same} : !has({before})",
        "message": "cannot be changed once the job exists; create a new job",
        "fieldPath": f".{field}",
    }


def _structural(node: JsonSchemaValue, definitions: dict[str, JsonSchemaValue]) -> dict[str, Any]:
    """JSON Schema 2020-12, as pydantic writes it, as the part of OpenAPI 3.0 that Kubernetes calls structural."""
    node = _resolved(node, definitions)
    if "const" in node:
        node["enum"] = [node.pop("const")]
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in node:
            node |= {bound: node[exclusive], exclusive: True}
    if "properties" in node:
        node["properties"] = {key: _structural(value, definitions) for key, value in node["properties"].items()}
    if "items" in node:
        node["items"] = _structural(node["items"], definitions)
    if "description" in node:
        node["description"] = " ".join(node["description"].split())
    node.pop("title", None)
    return node | _free_form(node.pop("additionalProperties", False), definitions) | _format(node)


def _resolved(node: JsonSchemaValue, definitions: dict[str, JsonSchemaValue]) -> JsonSchemaValue:
    """References and nulls replaced by what they stand for; what is written beside them wins.

    For the API server None is absence, but for a choice beside another default.
    """
    while outer := {"$ref", "anyOf"} & node.keys():
        beside = {key: value for key, value in node.items() if key not in outer}
        if "$ref" in outer:
            node = definitions[node["$ref"].removeprefix("#/$defs/")] | beside
            continue
        (inner,) = (choice for choice in node["anyOf"] if choice != {"type": "null"})
        if beside.get("default", ...) is None:
            del beside["default"]
        elif "default" in beside:
            beside["nullable"] = True
        node = inner | beside
    return dict(node)


def _free_form(values: JsonSchemaValue | bool, definitions: dict[str, JsonSchemaValue]) -> dict[str, Any]:
    """How a mapping's values are described; Kubernetes prunes unknown keys by itself."""
    if isinstance(values, bool):
        return {}
    return {"additionalProperties": _structural(values, definitions) or _anything(_COMPARED_LEVELS)}


def _anything(levels: int) -> dict[str, Any]:
    """A value of any kind; and the values in it, if it is a mapping, so many levels down.

    A bare x-kubernetes-preserve-unknown-fields would accept the same. But of what no schema describes the API server
    does not see that it is unchanged (apiserver 0.34, `CorrelatedObject.Key`): a rule that an upgrade adds to the spec
    would refuse all writes of status of a stored job that breaks it, instead of sparing it as it spares others.
    """
    found = {"x-kubernetes-preserve-unknown-fields": True, "nullable": True}
    return found | {"additionalProperties": _anything(levels - 1)} if levels else found


def _format(node: JsonSchemaValue) -> dict[str, str]:
    match node.get("type"):
        case "integer":
            return {"format": "int32" if node.get("maximum", _INT32_MAX + 1) <= _INT32_MAX else "int64"}
        case "number":
            return {"format": "double"}
    return {}


def rendered(job: JobModel) -> str:
    """The text of a kind's file."""
    yaml = YAML()
    yaml.width = 120
    yaml.representer.ignore_aliases = lambda _: True
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = StringIO("# Generated by `python -m pretune_api.schema` from crds/pretune_api; edit that.\n")
    text.seek(0, SEEK_END)
    yaml.dump(definition(job), text)
    return text.getvalue()


def files() -> dict[Path, str]:
    """What every generated file should hold."""
    by_name = {f"{definition(job)['metadata']['name']}.yaml": rendered(job) for job in _SHORT_NAMES}
    definitions = {folder / name: text for folder in FOLDERS for name, text in by_name.items()}
    return {REFERENCE: reference.rendered(), **definitions}


def main(arguments: list[str]) -> int:
    """Write the files, or with --check name those that are stale; the exit status."""
    stale = {path: text for path, text in files().items() if not path.exists() or path.read_text() != text}
    if arguments == ["--check"]:
        if stale:
            names = " and ".join(dict.fromkeys(path.name for path in stale))
            print(f"{names} differ from the models; run python -m pretune_api.schema", file=sys.stderr)
        return bool(stale)
    for path, text in stale.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
