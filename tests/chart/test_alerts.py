"""Alerts and recording rules: about metrics that there are, each with a page that says what to do."""

from pathlib import Path
from typing import Any

import pytest
from generated import CHART
from known import unknown_metrics
from ruamel.yaml import YAML

ROOT = CHART.parents[1]
RUNBOOKS = ROOT / "docs/runbooks"
Json = dict[str, Any]


def read(path: Path) -> Json:
    found: Json = YAML(typ="safe", pure=True).load(path)
    return found


def rules(name: str) -> list[Json]:
    return [rule for group in read(CHART / f"files/rules/{name}.yaml")["groups"] for rule in group["rules"]]


ALERTS = {alert["alert"]: alert for alert in rules("alerts")}
every_alert = pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS.keys())


@every_alert
def test_an_alert_says_what_is_wrong_how_bad_it_is_and_where_help_stands(alert: Json) -> None:
    assert alert["annotations"]["summary"].endswith(".")
    assert alert["labels"]["severity"] in {"critical", "warning"}
    page = alert["annotations"]["runbook_url"]
    assert page == f"docs/runbooks/{alert['alert']}.md"
    text = (ROOT / page).read_text()
    assert text.startswith(f"# {alert['alert']}\n")
    assert all(f"**{part}**" in text for part in ("What", "Look", "Do"))


def test_there_is_no_page_without_an_alert() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == ALERTS.keys()


def test_rules_use_metrics_that_there_are_and_series_that_are_recorded() -> None:
    recorded = {rule["record"] for rule in rules("recording")}
    for rule in (*rules("recording"), *ALERTS.values()):
        assert unknown_metrics(rule["expr"]) == set(), rule["expr"]
        assert {word for word in rule["expr"].split() if ":pretune_" in word} <= recorded, rule["expr"]


@every_alert
def test_each_alert_is_tried_where_it_fires_and_where_it_does_not(alert: Json) -> None:
    tests = read(ROOT / "tests/e2e/rules.yaml")["tests"]
    tried = [case for test in tests for case in test["alert_rule_test"] if case["alertname"] == alert["alert"]]
    assert {bool(case["exp_alerts"]) for case in tried} == {True, False}
