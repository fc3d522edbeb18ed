"""Three jobs applied at once run one after the other, as real Ray clusters, and end in a model that people can load."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from e2e import corpora
from e2e.conftest import Installation
from e2e.first_step import parts_to_first_step
from e2e.panels import ONLY_WITH_A_PEAK, queries, without_data
from e2e.tracker import Tracker
from e2e.world import Document, Namespace, is_true
from pretune_api.storage import Location
from pretune_cli.__main__ import main
from pretune_cli.report.history import follow, read_runs
from pretune_trainer.drive.prometheus import TrainMetrics
from pretune_trainer.storage.store import Store
from support.measured import Measured

JOBS = ("pretrainjob/general", "pretrainjob/domain", "finetunejob/classify")


@pytest.fixture(scope="module")
def started(team: Namespace, tracker: Tracker) -> dict[str, float]:
    """Seconds that each part of the way to the chain's first step took. The two jobs after it have a tracker."""
    general, domain, classify = corpora.chain()
    team.apply(tracker.credentials, tracker.followed(classify), tracker.unfollowed(domain), general)
    return parts_to_first_step(team, JOBS[0], 400.0)


@pytest.fixture(scope="module")
def finished(team: Namespace, started: dict[str, float]) -> dict[str, Document]:
    """The chain's statuses, once kubectl has seen all of it finished."""
    waited = team.kubectl("wait", "--for=condition=Finished", "--timeout=25m", *JOBS)
    assert waited.count("condition met") == len(JOBS)
    return {job: team.status(job) for job in JOBS}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, installation: Installation) -> Path:
    """The storage of the same chain, run by `pretune run` with as many ranks."""
    folder = tmp_path_factory.mktemp("alone")
    return corpora.run_on_this_machine(corpora.chain(), installation.buckets / "corpora", folder)


def test_the_way_to_the_first_step_is_told_part_by_part(started: dict[str, float], measured: Measured) -> None:
    measured(started)
    assert min(started.values()) >= 0


def test_a_chain_applied_in_any_order_succeeds_with_one_attempt_each(finished: dict[str, Document]) -> None:
    assert {job: (status["state"], status["attemptCount"]) for job, status in finished.items()} == dict.fromkeys(
        JOBS, ("Succeeded", 1)
    )
    for status in finished.values():
        assert is_true(status, "Finished")
        assert status["progress"]["percent"] == 100


def test_each_job_starts_from_the_artifact_of_the_one_before(finished: dict[str, Document]) -> None:
    general, domain, classify = finished.values()
    assert [found["digest"] for found in domain["inputs"]] == [general["artifact"]["digest"]]
    assert [found["digest"] for found in classify["inputs"]] == [domain["artifact"]["digest"]]


def test_the_artifact_loads_with_transformers_and_is_as_good_as_from_one_machine(
    finished: dict[str, Document], alone: Path, installation: Installation
) -> None:
    from transformers import pipeline

    status = finished["finetunejob/classify"]
    folder = installation.buckets / status["artifact"]["uri"].removeprefix("s3://")
    answer = pipeline("text-classification", model=str(folder))("names = []\nnames.")
    assert answer[0]["label"] in corpora.chain()[2]["spec"]["task"]["sequenceClassification"]["labels"]
    figures = corpora.metrics_of(alone, "finetunejob-classify")
    assert {"loss", "accuracy"} <= status["metrics"].keys() <= figures.keys()
    assert status["metrics"] == {name: pytest.approx(figures[name], abs=0.01) for name in status["metrics"]}


def test_a_tracker_has_a_job_as_one_run_with_its_curve_its_figures_and_its_artifact(
    finished: dict[str, Document], installation: Installation, team: Namespace, tracker: Tracker
) -> None:
    status = finished["finetunejob/classify"]
    [run] = tracker.runs(team, "classify")
    assert run.info.status == "FINISHED"
    assert tracker.losses(run) == losses(installation.folder_of(team, "finetunejob/classify"))
    overall = {name: value for name, value in status["metrics"].items() if "[" not in name}
    assert {name: run.data.metrics[f"validation/{name}"] for name in overall} == overall
    assert run.data.params["training.learningRate"] == "0.002"
    assert run.data.tags["pretune.job"] == "FinetuneJob/classify"
    assert run.data.tags["pretune.model.digest"] == finished["pretrainjob/domain"]["artifact"]["digest"]
    assert run.data.tags["pretune.artifact.digest"] == status["artifact"]["digest"]


def test_a_tracker_that_is_away_holds_up_no_job_and_the_log_says_so_once(
    finished: dict[str, Document],
    installation: Installation,
    team: Namespace,
    tracker: Tracker,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["logs", str(installation.folder_of(team, "pretrainjob/domain")), "--rank", "0"]) == 0
    said = capsys.readouterr().out
    assert said.count(f"cannot send to MLflow at {tracker.away}, training continues: ") == 1


def test_nothing_holds_machines_once_the_chain_is_done(finished: dict[str, Document], team: Namespace) -> None:
    team.kubectl("wait", "--for=delete", "--timeout=180s", "pods", "-l", "pretune.dev/name")
    assert team.items("rayclusters") == []
    assert [len(team.ray_jobs(job)) for job in JOBS] == [1, 1, 1]


def test_prometheus_has_every_metric_of_a_run(
    finished: dict[str, Document], installation: Installation, team: Namespace
) -> None:
    for name in exposed():
        found = installation.prometheus.query(f'last_over_time({name}{{namespace="{team.name}",name="general"}}[1d])')
        assert found, f"Prometheus has no {name}"


def test_every_panel_of_the_dashboard_of_a_job_shows_the_run(
    finished: dict[str, Document], installation: Installation, team: Namespace
) -> None:
    status = finished["pretrainjob/general"]
    start, end = (datetime.fromisoformat(status[time]).timestamp() for time in ("startTime", "completionTime"))
    asked = queries("job", {"namespace": team.name, "kind": "PretrainJob", "job": "general"})
    assert without_data(installation.prometheus, asked, start, end) == ONLY_WITH_A_PEAK


def losses(folder: Path) -> dict[int, float]:
    """The losses of a job by step, as its report draws them."""
    steps = follow(read_runs(Store.open(Location(uri=folder.as_uri())))).steps
    return dict(zip(steps["step"], steps["loss"], strict=True))


def exposed() -> Iterator[str]:
    """Names of the series that a trainer on CPUs exposes: mfu has no peak to be compared with there."""
    for family in TrainMetrics().registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if family.type in {"histogram", "summary"}:
            name = f"{family.name}_count"
        if name != "pretune_train_mfu":
            yield name
