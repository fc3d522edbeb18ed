"""The chart says what it can be told, and refuses the rest."""

from pathlib import Path
from typing import Any

import generated
import pytest
from jsonschema import Draft7Validator
from pydantic import ValidationError
from ruamel.yaml import YAML

from pretune_api import schema
from pretune_operator.settings import Settings

ROOT = generated.CHART.parents[1]


def leaves(node: Any, path: str = "") -> list[str]:
    """Paths of the values that hold no others."""
    if not isinstance(node, dict) or not node:
        return [path]
    return [leaf for key, value in node.items() for leaf in leaves(value, f"{path}.{key}".lstrip("."))]


def refusals(values: dict[str, Any]) -> list[str]:
    return [error.message for error in Draft7Validator(generated.schema()).iter_errors(values)]


@pytest.mark.parametrize("path", generated.files(), ids=lambda path: path.name)
def test_what_is_generated_is_up_to_date(path: Path) -> None:
    assert path.read_text() == generated.files()[path], "run python tests/chart/generated.py"


def test_the_chart_installs_the_definitions_of_the_api() -> None:
    for path in (ROOT / "crds").glob("*.yaml"):
        assert (generated.CHART / "files/crds" / path.name).read_text() == path.read_text()
    assert set(schema.FOLDERS) == {ROOT / "crds", generated.CHART / "files/crds"}


def test_every_value_is_described() -> None:
    described = [value.path for value in generated.documented()]
    silent = [leaf for leaf in leaves(generated.default_values()) if not leaf.startswith(tuple(described))]
    assert silent == []


def test_every_setting_of_the_operator_is_a_value() -> None:
    settings = {field.alias for field in Settings.model_fields.values()}
    assert settings == generated.default_values()["settings"].keys() | {generated.SET_BY_TEMPLATES}


def test_the_default_values_are_good() -> None:
    assert refusals(generated.default_values()) == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"setings": {}}, "'setings' was unexpected"),
        ({"image": {"tga": "1"}}, "'tga' was unexpected"),
        ({"crds": {"keep": "yes"}}, "'yes' is not of type 'boolean'"),
        ({"networkPolicy": {"enabled": True, "apiServerPorts": [70000]}}, "70000 is greater than the maximum of 65535"),
        ({"networkPolicy": {"enabled": True}}, "'apiServerPorts' is a required property"),  # without it, all are open
        ({"metrics": {"podMonitor": {"enable": True}}}, "'enable' was unexpected"),
        ({"nameOverride": "Foo_Bar"}, "'Foo_Bar' does not match"),
        ({"fullnameOverride": "1st"}, "'1st' does not match"),
        ({"metrics": {"prometheusRule": {"runbooks": "https://example.com"}}}, "'https://example.com' does not match"),
    ],
)
def test_a_slip_in_the_values_is_refused(values: dict[str, Any], sentence: str) -> None:
    (refusal,) = refusals(values)
    assert sentence in refusal


@pytest.mark.parametrize(
    "pool",
    [
        {"A100": {}},
        {"a100_80gb": {}},
        {"a100": {"gpuPerNode": 8}},
        {"a100": {"resources": {"memory": "64 GiB"}}},
        {"a100": {"env": [{"name": "NCCL_IB_HCA"}]}},
        {"a100": {"env": [{"name": "TOKEN", "value": "1", "secretKeyRef": {"name": "token", "key": "t"}}]}},
    ],
    ids=str,
)
def test_a_pool_with_which_the_operator_would_not_start_is_refused(pool: dict[str, Any]) -> None:
    settings = generated.default_values()["settings"]
    assert refusals({"settings": settings}) == []
    settings["pools"] |= pool
    with pytest.raises(ValidationError):
        Settings.model_validate(settings)
    assert len(refusals({"settings": settings})) == 1


def test_chart_and_code_are_of_one_version() -> None:
    chart = YAML(typ="safe", pure=True).load(generated.CHART / "Chart.yaml")
    versions = [line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version = ")]
    assert versions == [f'version = "{chart["version"]}"']
    assert chart["appVersion"] == chart["version"]
