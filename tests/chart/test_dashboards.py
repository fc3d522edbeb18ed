"""Grafana's dashboards: of Grafana's types, complete, and about metrics that there are."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
from generated import DASHBOARDS
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from known import unknown_metrics

Json = dict[str, Any]
WRITTEN = {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}
OF_GRAFANA = {"__rate_interval", "__range"}

every_dashboard = pytest.mark.parametrize("dashboard", WRITTEN.values(), ids=WRITTEN.keys())


def panels(dashboard: Json) -> list[Json]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard: Json) -> Iterator[str]:
    for panel in panels(dashboard):
        yield from (target["expr"] for target in panel["targets"])
    yield from (annotation["expr"] for annotation in dashboard["annotations"].get("list", []))
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def test_there_is_one_for_the_fleet_for_a_job_and_for_the_operator() -> None:
    assert {dashboard["uid"] for dashboard in WRITTEN.values()} == {"pretune-fleet", "pretune-job", "pretune-operator"}


@every_dashboard
def test_it_is_made_of_grafanas_types_alone(dashboard: Json) -> None:
    register_default_plugins()
    read = Dashboard.from_json(dashboard)
    assert json.loads(JSONEncoder().encode(read)) == dashboard


def test_what_grafana_does_not_know_is_noticed() -> None:
    register_default_plugins()
    slip = WRITTEN["job"] | {"refrsh": "5s"}
    assert json.loads(JSONEncoder().encode(Dashboard.from_json(slip))) != slip


@every_dashboard
def test_each_panel_says_what_it_shows_and_in_which_unit(dashboard: Json) -> None:
    for panel in panels(dashboard):
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["description"].endswith("."), panel["title"]
        assert defaults["unit"], panel["title"]
        assert defaults["thresholds"]["steps"], panel["title"]
        sources = {json.dumps(place["datasource"]) for place in (panel, *panel["targets"])}
        assert sources == {json.dumps({"type": "prometheus", "uid": "${datasource}"})}, panel["title"]


@every_dashboard
def test_panels_have_ids_of_their_own_and_do_not_overlap(dashboard: Json) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], (one, other)


@every_dashboard
def test_queries_use_metrics_that_there_are_and_variables_that_are_declared(dashboard: Json) -> None:
    declared = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert "datasource" in declared
    for expr in expressions(dashboard):
        assert unknown_metrics(expr) == set(), expr
        assert set(re.findall(r"\$\{?(\w+)", expr)) <= declared | OF_GRAFANA, expr


@every_dashboard
def test_jobs_of_two_kinds_may_have_one_name(dashboard: Json) -> None:
    for expr in expressions(dashboard):
        for by in re.findall(r"by \((.*?)\)", expr):
            labels = set(by.split(", "))
            assert "name" not in labels or {"namespace", "kind"} <= labels, expr


@every_dashboard
def test_ranges_follow_grafanas_scrape_interval_or_are_long(dashboard: Json) -> None:
    for expr in expressions(dashboard):
        assert set(re.findall(r"\[(.*?)\]", expr)) <= {"$__rate_interval", "$__range", "5m", "1h"}, expr
