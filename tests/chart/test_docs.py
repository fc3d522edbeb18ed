"""What the pages say is what the code does: jobs, fields, values, causes, conditions, messages, links."""

import ast
import re
from pathlib import Path
from typing import Any

import generated
import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from pretune_api.names import Cause
from pretune_api.problems import parse
from pretune_cli.__main__ import main
from pretune_operator.conditions import ConditionType, Reason
from support.pages import PAGES, ROOT, name_of
from support.pages import blocks as fenced
from support.specs import PRETRAIN

Json = dict[str, Any]

JOB, VALUES, SPEC = "apiVersion: pretune.dev/v1alpha1\n", "# values.yaml\n", "spec:\n"
GITOPS = ("# argocd-cm\n", "# kustomization.yaml of Flux\n")
VOLUME = "# corpora.yaml\n"
OTHERS = ("# queues.yaml\n", VOLUME, *GITOPS)
"""How a block of YAML begins: jobs, values of the chart, a part of a job, and what is not ours."""

every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def read(text: str) -> Json:
    found: Json = YAML(typ="safe", pure=True).load(text)
    return found


def blocks(page: Path, begin: str) -> list[Json]:
    """The YAML blocks of a page whose first line is `begin`."""
    return [read(text) for text in fenced(page, "yaml") if text.startswith(begin)]


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


@pytest.fixture(scope="module")
def specs() -> list[Json]:
    definitions = [read(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")]
    schemas = [definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for definition in definitions]
    return [schema["properties"]["spec"] for schema in schemas]


@every_page
def test_every_field_that_a_page_names_is_one_of_a_job(page: Path, specs: list[Json]) -> None:
    assert [path for path in named(page, "spec") if not any(has_field(spec, path.split(".")) for spec in specs)] == []


@every_page
def test_every_value_that_a_page_names_is_one_of_the_charts(page: Path) -> None:
    values = generated.default_values()
    paths = [f"{root}.{path}" for root in values for path in named(page, root)]
    assert [path for path in paths if not has_value(values, path.split("."))] == []


@every_page
def test_the_chart_takes_the_values_that_a_page_shows(page: Path) -> None:
    for values in blocks(page, VALUES):
        merged = merge(generated.default_values(), values)
        assert [error.message for error in Draft7Validator(generated.schema()).iter_errors(merged)] == []


def test_the_api_takes_the_specs_that_the_pages_show() -> None:
    shown = [block for page in PAGES for block in blocks(page, SPEC)]
    assert shown
    for block in shown:
        parse(merge(PRETRAIN, block))


@every_page
def test_every_block_of_yaml_is_held_to_something(page: Path) -> None:
    assert [text for text in fenced(page, "yaml") if not text.startswith((JOB, VALUES, SPEC, *OTHERS))] == []


def test_the_volume_that_a_page_shows_is_bound_to_the_claim_of_its_job() -> None:
    page = ROOT / "docs/install.md"
    [text] = [text for text in fenced(page, "yaml") if text.startswith(VOLUME)]
    volume, claim = YAML(typ="safe", pure=True).load_all(text)
    asked = {key: claim["metadata"][key] for key in ("namespace", "name")}
    assert (volume["spec"]["claimRef"], claim["spec"]["volumeName"]) == (asked, volume["metadata"]["name"])
    for field in ("accessModes", "storageClassName"):
        assert volume["spec"][field] == claim["spec"][field]
    mounted = [block["spec"]["compute"]["volumes"] for block in blocks(page, SPEC) if "volumes" in str(block)]
    assert [[each["claim"] for each in volumes] for volumes in mounted] == [[asked["name"]]]


@pytest.mark.parametrize("begin", GITOPS)
def test_tools_for_git_are_told_of_both_kinds_and_of_a_condition_that_jobs_have(begin: str) -> None:
    [text] = [text for page in PAGES for text in fenced(page, "yaml") if text.startswith(begin)]
    assert {kind for kind in ("PretrainJob", "FinetuneJob") if kind in text} == {"PretrainJob", "FinetuneJob"}
    for asked, known in (("type", ConditionType), ("reason", Reason)):
        found = re.findall(rf"\b(?:c|condition)\.{asked} == ['\"](\w+)", text)
        assert found
        assert set(found) <= {*known}


@every_page
def test_the_jobs_that_a_page_shows_are_valid(page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, text in enumerate(fenced(page, "yaml")):
        if text.startswith(JOB):
            file = tmp_path / f"{number}.yaml"
            file.write_text(text)
            assert main(["validate", str(file)]) == 0, capsys.readouterr().err


@every_page
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#\s]*)#?([^)\s]*)\)", page.read_text())
    broken = [f"{path}#{anchor}" for path, anchor in links if not leads(page.parent / path if path else page, anchor)]
    assert broken == []


def leads(target: Path, anchor: str) -> bool:
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> set[str]:
    """Of headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("pages", ["docs/how-to/*.md", "examples/*.yaml"])
def test_readme_leads_to_every_how_to_and_every_example(pages: str) -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in map(name_of, ROOT.glob(pages)) if f"({name})" not in readme] == []


def test_every_condition_and_every_reason_stands_in_concepts() -> None:
    page = (ROOT / "docs/concepts.md").read_text()
    rows = re.findall(r"^\| `([A-Z]\w+)` \|(.*)", page, re.MULTILINE)
    assert [about for about, _ in rows] == list(ConditionType)
    reasons = {reason for _, text in rows for reason in re.findall(r"`([A-Z]\w+)`", text)}
    assert reasons == {*Reason, Cause.USER_ERROR, Cause.STORAGE_DENIED}


def test_every_message_that_a_how_to_explains_is_one_of_the_code() -> None:
    known = [*sentences()]
    shown = [
        message
        for page in (ROOT / "docs/how-to").glob("*.md")
        for table in re.findall(r"^\| message \|.*?(?=^$|\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
        for message in re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE)
    ]
    assert len(shown) > 50
    assert [message for message in shown if not any(message in sentence for sentence in known)] == []


def sentences() -> list[str]:
    """The texts of the code, with … for each value that is filled in."""
    folders = ("crds/pretune_api", "operator/pretune_operator", "trainer")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    return [
        *("".join(map(written, node.values)) for node in nodes if isinstance(node, ast.JoinedStr)),
        *(
            node.value.replace("{}", "…")
            for node in nodes
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ),
    ]


def written(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "…"
