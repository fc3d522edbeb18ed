"""What is understood of what a head pod says at /progress."""

import json
from typing import Any

import pytest

from pretune_api.status import MOST_LOG_BYTES, MOST_METRICS
from pretune_operator.cluster.progress import last_line, seen
from pretune_trainer.drive.progress import Progress
from pretune_trainer.drive.wire import Artifact, Ending
from pretune_trainer.report import Committed, Evaluated
from support.boards import DIGEST, going_on


@pytest.fixture
def progress() -> Progress:
    return going_on()


def test_the_operator_reads_what_the_trainer_writes(progress: Progress) -> None:
    read = seen(progress.to_json())
    assert (read.state, read.run, read.steps.step, read.steps.total, read.steps.percent) == ("Running", 2, 100, 400, 25)
    assert (read.from_step, read.metrics, read.ending) == (100, {"loss": 2.5}, None)


def test_the_last_word_of_a_run_comes_with_its_artifact(progress: Progress) -> None:
    progress.ending = Ending(0, "", artifact=Artifact("s3://models/a", DIGEST), metrics={"loss": 2.0}, step=400)
    read = seen(progress.to_json())
    assert read.state == "Succeeded"
    assert read.ending is not None
    assert read.ending.artifact is not None
    assert (read.ending.artifact.uri, read.ending.artifact.digest) == ("s3://models/a", DIGEST)
    assert (read.ending.step, read.ending.metrics) == (400, {"loss": 2.0})


def test_the_last_line_of_a_driver_says_what_its_board_did_not_hear() -> None:
    ending = Ending(1, "the ranks were lost", "OutOfMemory")
    read = last_line("Job failed, last available logs:\n{}\n" + json.dumps({"ending": ending.to_json()}) + "\n")
    assert read is not None
    assert (read.exit_code, read.cause, read.message) == (1, "OutOfMemory", "the ranks were lost")


def test_the_last_lines_of_a_failure_are_read_from_either_and_never_more_than_a_status_holds(
    progress: Progress,
) -> None:
    progress.ending = Ending(1, "it broke", "Unknown", log="ValueError: no")
    read = seen(progress.to_json()).ending, last_line(json.dumps({"ending": progress.ending.to_json()}))
    assert [ending and ending.log for ending in read] == ["ValueError: no"] * 2
    progress.ending = Ending(1, "it broke", "Unknown", log="x" * 9000 + "end")
    cut = seen(progress.to_json()).ending
    assert cut is not None
    assert cut.log == "x" * (MOST_LOG_BYTES - 3) + "end"


@pytest.mark.parametrize(
    "logs",
    [
        "",
        "Killed",
        "7",
        "[" * 5_000,
        '{"ending": null}',
        '{"ending": {"exitCode": null}}',
        '{"ending": {"exitCode": Infinity}}',
        '{"ending": {"exitCode": 1, "cause": []}}',
    ],
    ids=lambda logs: logs[:40],
)
def test_a_last_line_that_tells_no_ending_is_none(logs: str) -> None:
    assert last_line(logs) is None


def test_a_metric_that_is_no_number_is_left_out(progress: Progress) -> None:
    progress.take(Evaluated(100, {"loss": float("nan"), "accuracy": 0.5}, 1.0))
    assert seen(progress.to_json()).metrics == {"accuracy": 0.5}


def test_metrics_of_many_classes_make_way_for_those_of_all(progress: Progress) -> None:
    of_classes = {f"recall[{number}]": 0.5 for number in range(MOST_METRICS)}
    progress.take(Evaluated(100, of_classes | {"accuracy": 0.5}, 1.0))
    progress.ending = Ending(0, "", artifact=Artifact("s3://models/a", DIGEST), metrics=of_classes, step=400)
    read = seen(progress.to_json())
    assert read.metrics == {"accuracy": 0.5}
    assert read.ending is not None
    assert read.ending.metrics == of_classes


def test_metrics_of_many_slices_make_way_for_those_of_the_test(progress: Progress) -> None:
    judged = {"loss": 1.0} | {f"loss/product={number}": 1.0 for number in range(MOST_METRICS)}
    tested = {f"test_{name}": 2.0 for name in judged}
    progress.take(Evaluated(100, judged | tested, 1.0))
    shown = seen(progress.to_json()).metrics
    assert list(shown)[:3] == ["loss", "test_loss", "loss/product=0"]
    assert len(shown) == MOST_METRICS


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"state": "Failed", "ending": {}},
        {"state": "Failed", "ending": {"exitCode": float("inf")}},
        {"state": "Running", "checkpoint": {}},
        {"state": "Running", "percent": 101},
        {"state": "Running", "run": "second"},
        {"state": "Running", "fromStep": -1},
        {"state": "Running", "metrics": {"loss": float("nan")}},
    ],
    ids=str,
)
def test_what_is_no_progress_or_fits_into_no_status_is_refused(document: Any) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        seen(document)


def test_a_checkpoint_is_read_by_its_step(progress: Progress) -> None:
    progress.take(Committed(step=120, blocked_seconds=0.1, seconds=1.0, size=1))
    assert seen(progress.to_json()).steps.checkpoint_step == 120
