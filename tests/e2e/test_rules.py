"""Alerts that fire, and alerts that do not, as Prometheus' own tool sees it."""

import shutil
import subprocess
from pathlib import Path

from e2e.cluster.binaries import programs
from e2e.release import CHART, rendered

RULES = CHART / "files/rules"
TESTS = Path(__file__).with_name("rules.yaml")


def test_each_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    for file in (*RULES.glob("*.yaml"), TESTS):
        shutil.copy(file, tmp_path)
    promtool: list[str | Path] = [programs("prometheus") / "promtool", "test", "rules", TESTS.name]
    told = subprocess.run(promtool, cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr


def test_the_chart_makes_rules_and_dashboards_when_it_is_told_to() -> None:
    made = rendered(
        {
            "metrics": {
                "prometheusRule": {
                    "enabled": True,
                    "labels": {"release": "prometheus"},
                    "runbooks": "https://example.com/",
                },
                "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Training"}},
            }
        }
    )
    rules = {document["metadata"]["name"]: document for document in made if document["kind"] == "PrometheusRule"}
    assert rules.keys() == {"pretune-alerts", "pretune-recording"}
    alerts = [rule for group in rules["pretune-alerts"]["spec"]["groups"] for rule in group["rules"]]
    for alert in alerts:
        assert alert["annotations"]["runbook_url"] == f"https://example.com/docs/runbooks/{alert['alert']}.md"
        assert "{{ $" in alert["annotations"]["summary"]
    shown = [document for document in made if document["metadata"].get("labels", {}).get("grafana_dashboard") == "1"]
    assert {file for document in shown for file in document["data"]} == {
        "pretune-fleet.json",
        "pretune-job.json",
        "pretune-operator.json",
    }


def test_each_release_watches_its_own_operator() -> None:
    made = rendered({"metrics": {"prometheusRule": {"enabled": True}}}, namespace="team-a", name="second")
    [service] = [document["metadata"] for document in made if document["kind"] == "Service"]
    [down] = [
        rule["expr"]
        for document in made
        if document["kind"] == "PrometheusRule"
        for group in document["spec"]["groups"]
        for rule in group["rules"]
        if rule.get("alert") == "PretuneOperatorDown"
    ]
    assert service["name"] == "second-pretune"
    assert down == 'absent(pretune_operator_queue_depth{namespace="team-a",service="second-pretune"})'


def test_neither_is_made_unasked() -> None:
    kinds = [document["kind"] for document in rendered({})]
    assert "PrometheusRule" not in kinds
    assert kinds.count("ConfigMap") == 1
