"""What the pages of docs/ say is what the code does: causes, fields, values."""

import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from chart import generated
from pretune_api.names import Cause
from pretune_api.problems import parse
from support.specs import PRETRAIN

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), generated.README]
Json = dict[str, Any]

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def read(text: str) -> Json:
    return YAML(typ="safe", pure=True).load(text)


def blocks(page: Path, begin: str) -> list[Json]:
    """The YAML blocks of a page whose first line is `begin`."""
    return [read(text) for text in re.findall(rf"```yaml\n({begin}\n.*?)```", page.read_text(), re.DOTALL)]


def named(page: Path, root: str) -> set[str]:
    """The paths below `root` that a page names between backquotes."""
    return set(re.findall(rf"`{root}\.(\w+(?:\.\w+)*)", page.read_text()))


def has_field(schema: Json, path: list[str]) -> bool:
    schema = schema.get("items", schema)
    return not path or (path[0] in schema.get("properties", {}) and has_field(schema["properties"][path[0]], path[1:]))


def has_value(values: Any, path: list[str]) -> bool:
    return not path or (isinstance(values, dict) and path[0] in values and has_value(values[path[0]], path[1:]))


def merge(below: Any, above: Any) -> Any:
    """Values over the chart's own, as Helm merges them: null takes a key out."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    both = below | {key: merge(below.get(key), value) for key, value in above.items()}
    return {key: value for key, value in both.items() if key not in above or value is not None}


def test_every_cause_has_a_section_with_what_is_seen_why_and_what_to_do() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text()
    sections = re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert [cause for cause, _ in sections] == list(Cause)
    for cause, section in sections:
        assert re.findall(r"^\*\*(\w+)\*\*:", section, re.MULTILINE) == ["Seen", "Why", "Do"], cause


@every_page
def test_every_field_that_a_page_names_is_one_of_a_job(page: Path) -> None:
    definitions = [read(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")]
    specs = [
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        for definition in definitions
    ]
    assert [path for path in named(page, "spec") if not any(has_field(spec, path.split(".")) for spec in specs)] == []


@every_page
def test_every_value_that_a_page_names_is_one_of_the_charts(page: Path) -> None:
    values = generated.default_values()
    paths = [f"{root}.{path}" for root in values for path in named(page, root)]
    assert [path for path in paths if not has_value(values, path.split("."))] == []


@every_page
def test_the_chart_takes_the_values_that_a_page_shows(page: Path) -> None:
    for values in blocks(page, "# values.yaml"):
        merged = merge(generated.default_values(), values)
        assert [error.message for error in Draft7Validator(generated.schema()).iter_errors(merged)] == []


def test_the_api_takes_the_specs_that_the_pages_show() -> None:
    shown = [block for page in PAGES for block in blocks(page, "spec:")]
    assert shown
    for block in shown:
        parse(merge(PRETRAIN, block))
