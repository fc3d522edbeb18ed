"""What is made for the chart: the README's table, parts of values.schema.json, and Grafana's dashboards.

`python tests/chart/generated.py` writes them; tests/chart/test_documentation.py fails where they are stale.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Final

import dashboards
from ruamel.yaml import YAML

from pretune_operator.settings import Settings

CHART: Final = Path(__file__).parents[2] / "charts/pretune"
VALUES: Final = CHART / "values.yaml"
README: Final = CHART / "README.md"
SCHEMA: Final = CHART / "values.schema.json"

DASHBOARDS: Final = CHART / "files/dashboards"

SET_BY_TEMPLATES: Final = "operatorNamespace"
"""The only setting that is no value."""

_TABLE_BEGINS: Final = "python tests/chart/generated.py`. -->\n"


@dataclass(frozen=True)
class Value:
    """A documented value of the chart."""

    path: str
    default: Any
    text: str


def default_values() -> Any:
    """What values.yaml holds."""
    return YAML(typ="safe", pure=True).load(VALUES)


def documented() -> Iterator[Value]:
    """The values that have a comment which begins with `--`."""
    values, path, said = default_values(), list[str](), list[str]()
    for line in VALUES.read_text().splitlines():
        if comment := re.match(r" *# (-- )?(.*)", line):
            said = [*said, comment[2]] if said or comment[1] else []
        elif key := re.match(r"( *)(\w+):", line):
            path = [*path[: len(key[1]) // 2], key[2]]
            if said:
                yield Value(".".join(path), reduce(lambda node, step: node[step], path, values), " ".join(said))
            said = []


def readme() -> str:
    """README.md with a table of all values."""
    head, begins, _ = README.read_text().partition(_TABLE_BEGINS)
    rows = [f"| `{value.path}` | `{json.dumps(value.default)}` | {value.text} |" for value in documented()]
    return "\n".join([head + begins, "| value | default | what |", "|---|---|---|", *rows, ""])


def schema() -> dict[str, Any]:
    """values.schema.json with the operator's settings as they are, and every value described."""
    found: dict[str, Any] = json.loads(SCHEMA.read_text())
    settings = _untitled(Settings.model_json_schema())
    found["$defs"] |= settings.pop("$defs")
    del settings["properties"][SET_BY_TEMPLATES]
    # What pydantic's schema leaves to its validators: keys that no pattern fits, and the rule of EnvVar.
    settings["properties"]["pools"]["additionalProperties"] = False
    found["$defs"]["EnvVar"]["oneOf"] = [{"required": ["value"]}, {"required": ["secretKeyRef"]}]
    found["properties"]["settings"] = settings
    for value in documented():
        if not value.path.startswith("settings."):
            _describe(found, value)
    return found


def _untitled(node: Any) -> Any:
    if isinstance(node, list):
        return [_untitled(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: _untitled(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}


def _describe(schema: dict[str, Any], value: Value) -> None:
    *outer, last = value.path.split(".")
    for step in outer:
        schema = schema["properties"][step]
        if "$ref" in schema:
            return  # described where it is defined
    schema["properties"][last]["description"] = value.text


def files() -> dict[Path, str]:
    """What every file should hold."""
    shown = {DASHBOARDS / f"{name}.json": text for name, text in dashboards.written()}
    return {README: readme(), SCHEMA: json.dumps(schema(), indent=1) + "\n", **shown}


def main() -> int:
    """Write the files."""
    for path, text in files().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
