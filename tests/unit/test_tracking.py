"""MLflow is told of a job as of one run, by its own client at its own server; where there is none, nothing waits."""

import logging
import socket
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pretune_api.names import ExitCode
from pretune_api.run_config import RunConfig
from pretune_api.tracking import MLflow
from pretune_cli import run as command
from pretune_cli.__main__ import main
from pretune_trainer.drive import tracking
from pretune_trainer.drive.tracking import MLflowRun, connect
from pretune_trainer.drive.wire import Artifact, Ending
from pretune_trainer.errors import UserError
from pretune_trainer.report import Evaluated, Start, Step
from support.faulty_proxy import proxy
from support.job_files import pretrain, write
from support.mlflow_server import curve, mlflow_server, runs
from support.ports import free_port
from support.stand_in import obey, told

ARTIFACT = Artifact("s3://models/general/artifact/0002", "sha256:" + "0" * 64)
FINISHED = Ending(ExitCode.OK, "finished", artifact=ARTIFACT)
STOPPED = Ending(ExitCode.STOPPED, "stopped at step 2, which is committed")


def start(run: int = 1) -> Start:
    return Start("causalLM", run, 0, 100, 1000, 1000, 8, 4, 10)


def step(number: int) -> Step:
    return Step(number, 3.0 / number, 1e-3, 0.5, 1000, 1000 * number, 0.5, 0.1)


def job(name: str) -> RunConfig:
    return told({"uri": "s3://models"}, name, uid=f"uid-of-{name}")


def sink(uri: str, name: str) -> MLflowRun:
    return MLflowRun(job(name), MLflow(uri=uri))


def nowhere() -> str:
    """An address at which nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


def kept(server: str, name: str, experiment: str = "team-a") -> list[Any]:
    """What the server knows of the runs of that name."""
    return runs(server, name, experiment)


def test_a_job_is_one_run_with_its_config_its_curves_and_what_came_of_it(server: str) -> None:
    told = sink(server, "general")
    told.write([start(), step(1), step(2), Evaluated(2, {"accuracy": 0.5, "recall[cat]": 0.25}, 1.0)])
    told.write([step(3)])
    told.close(FINISHED)
    (run,) = kept(server, "general")
    assert run.info.status == "FINISHED"
    assert curve(server, run, "train/loss") == [(1, 3.0), (2, 1.5), (3, 1.0)]
    assert curve(server, run, "validation/accuracy") == [(2, 0.5)]
    assert curve(server, run, "validation/recall_cat_") == [(2, 0.25)]
    assert run.data.params["training.tokensPerStep"] == "64"
    assert run.data.params["data.train.0.uri"] == "file:///corpus"
    assert run.data.params["parameters"] == "1000"
    assert run.data.tags["pretune.job"] == "PretrainJob/general"
    assert run.data.tags["pretune.namespace"] == "team-a"
    assert run.data.tags["pretune.artifact.uri"] == ARTIFACT.uri


def test_a_later_run_goes_on_with_it_and_a_job_from_the_beginning_does_not(server: str) -> None:
    first = sink(server, "resumed")
    first.write([start(1), step(1), step(2)])
    first.close(STOPPED)
    assert [run.info.status for run in kept(server, "resumed")] == ["KILLED"]
    second = sink(server, "resumed")
    second.write([start(2)])
    assert [run.info.status for run in kept(server, "resumed")] == ["RUNNING"]
    second.write([step(3)])
    second.close(FINISHED)
    (run,) = kept(server, "resumed")
    assert curve(server, run, "train/loss") == [(1, 3.0), (2, 1.5), (3, 1.0)]
    anew = sink(server, "resumed")
    anew.write([start(1), step(1)])
    anew.close(FINISHED)
    assert len(kept(server, "resumed")) == 2


def test_a_job_that_was_done_already_is_finished_there_too(server: str) -> None:
    lost = sink(server, "done")
    lost.write([start(), step(1)])
    lost.close(None)
    assert [run.info.status for run in kept(server, "done")] == ["RUNNING"]
    later = sink(server, "done")
    later.write([])
    later.close(FINISHED)
    assert [run.info.status for run in kept(server, "done")] == ["FINISHED"]


def test_what_a_server_missed_it_is_told_once_it_is_back_and_people_are_warned_once(
    tmp_path: Path, server: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_REST_SECONDS", 0.0)
    away = nowhere()
    told = sink(away, "patient")
    told.write([start(), step(1)])
    told.write([step(2)])
    (warning,) = [record.getMessage() for record in caplog.records if record.name == tracking.__name__]
    assert warning.startswith(f"cannot send to MLflow at {away}, training continues: ")
    told._client = connect(server)
    told.write([step(3)])
    told.close(FINISHED)
    (run,) = kept(server, "patient")
    assert curve(server, run, "train/loss") == [(1, 3.0), (2, 1.5), (3, 1.0)]


def test_a_run_whose_making_was_not_answered_is_not_made_twice(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "_REST_SECONDS", 0.0)
    sink(server, "before").write([start(), step(1)])
    with proxy(server) as faulty:
        told = sink(faulty.endpoint, "unanswered")
        faulty.faults = [None, "lost answer"]
        told.write([start(), step(1)])
        assert faulty.requests == ["GET", "POST"], "the experiment was found, and the run was made"
        told.close(FINISHED)
    (run,) = kept(server, "unanswered")
    assert run.info.status == "FINISHED"
    assert run.data.params["parameters"] == "1000"
    assert curve(server, run, "train/loss") == [(1, 3.0)]


def test_what_a_server_refuses_is_left_out_and_the_rest_is_told(
    server: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_REST_SECONDS", 0.0)
    told = sink(server, "refused")
    told.write([start(), Evaluated(1, {"../loss": 1.0}, 1.0)])
    told.write([step(2)])
    told.close(FINISHED)
    (run,) = kept(server, "refused")
    assert curve(server, run, "train/loss") == [(2, 1.5)]
    assert [record.levelno for record in caplog.records if record.name == tracking.__name__] == [logging.WARNING]


def test_a_server_that_wants_a_token_gets_that_of_the_environment_and_refuses_who_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with mlflow_server(tmp_path, token="of-the-team") as guarded:
        known = sink(guarded, "known")
        known.write([start(), step(1)])
        known.close(FINISHED)
        assert [run.info.status for run in kept(guarded, "known")] == ["FINISHED"]
        with monkeypatch.context() as without:
            without.delenv("MLFLOW_TRACKING_TOKEN")
            stranger = sink(guarded, "stranger")
            stranger.write([start(), step(1)])
            stranger.close(FINISHED)
        assert kept(guarded, "stranger") == []
    (warning,) = [record.getMessage() for record in caplog.records if record.name == tracking.__name__]
    assert "401" in warning


def test_a_server_that_never_answers_holds_up_the_end_for_no_longer_than_a_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        told = sink(f"http://127.0.0.1:{silent.getsockname()[1]}", "silent")
        told.write([start(), step(1)])
        began = time.monotonic()
        told.close(FINISHED)
        assert time.monotonic() - began < 10


def test_where_its_client_is_missing_people_learn_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=r"pip install 'pretune\[mlflow\]'"):
        sink(nowhere(), "missing").write([start()])


def test_a_long_value_and_a_key_that_mlflow_forbids_are_told_as_it_takes_them(server: str) -> None:
    config = job("large").model_dump(mode="json", exclude_none=True)
    config["model"] = {"architecture": {"type": "llama", "config": {"key (of theirs)": "x" * 9_000}}}
    told = MLflowRun(RunConfig.model_validate(config), MLflow(uri=server))
    told.write([start()])
    (run,) = kept(server, "large")
    assert run.data.params["model.architecture.config.key _of theirs_"] == "x" * 500


def test_a_job_run_on_a_laptop_is_told_by_the_one_field(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pretune_cli.run.run", partial(command.run, execute=obey))
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.jsonl").write_text('{"text": "some text"}')
    file = write(tmp_path / "jobs" / "job.yaml", pretrain("laptop").replace("./corpus", "../corpus"))
    assert main(["run", str(file), "--workers", "1", "--set", f"spec.tracking.mlflow.uri={server}"]) == 0
    (run,) = kept(server, "laptop", experiment="local")
    assert run.info.status == "FINISHED"
    assert [number for number, _ in curve(server, run, "train/loss")] == [*range(1, 11)]
