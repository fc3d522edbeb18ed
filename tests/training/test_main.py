"""The driver on a cluster, as a RayJob starts it; the ranks are one thread here, Ray is tried in tests/cli."""

import json
import os
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pretune_trainer import main as driver
from pretune_trainer.drive.desk import BoardLostError, Desk
from pretune_trainer.drive.group import Group, in_process
from pretune_trainer.drive.on_ray import RaySettings
from support.ports import free_port
from support.processes import end_process
from support.stand_in import obey, told


@pytest.fixture
def boards(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Processes of the boards that drivers have started: they outlive them, so the test ends them."""
    started: list[int] = []
    launch = driver._launch_board

    def noted(*arguments: Any) -> dict[str, int]:
        board = launch(*arguments)
        started.append(board["pid"])
        return board

    monkeypatch.setattr(driver, "_launch_board", noted)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield started
    for number, handler in before.items():
        signal.signal(number, handler)
    for board in started:
        end_process(board)


def config(folder: Path, name: str) -> Path:
    file = folder / "run.json"
    file.write_text(told({"uri": (folder / "storage").as_uri()}, name=name).model_dump_json())
    return file


def one_thread(desk: Desk, settings: RaySettings) -> Group:
    return in_process(desk, settings.device, obey)


def drive(file: Path, port: int = 0, host: str = "127.0.0.1") -> int:
    return driver.main([str(file), "--host", host, "--metrics-port", str(port)], one_thread)


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    ending: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])["ending"]
    return ending


needs_both_families = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="the machine has no IPv6")


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs_both_families)])
def test_a_run_config_becomes_an_artifact_that_the_last_line_names(
    tmp_path: Path, boards: list[int], capsys: pytest.CaptureFixture[str], host: str
) -> None:
    assert drive(config(tmp_path, "general"), host=host) == 0
    artifact = tmp_path / "storage/team-a/pretrainjob-general-0b9c3a0e/artifact/0001"
    assert last_line(capsys)["artifact"]["uri"] == artifact.as_uri()


@pytest.mark.parametrize(
    ("name", "status", "cause", "message"),
    [
        ("fails-early", 2, "UserError", "spec.data.train[0].uri: row 7 is empty"),
        ("diverges-late", 1, "NumericalError", "the loss is not finite at step 10"),
        ("breaks-down", 1, "Unknown", "KeyError: 'weight'"),
    ],
)
def test_a_failure_has_its_cause_and_sentence_in_the_last_line(
    tmp_path: Path,
    boards: list[int],
    capsys: pytest.CaptureFixture[str],
    name: str,
    status: int,
    cause: str,
    message: str,
) -> None:
    assert drive(config(tmp_path, name)) == status
    ending = last_line(capsys)
    assert (ending["cause"], ending["message"]) == (cause, message)


def test_progress_outlives_the_driver(tmp_path: Path, boards: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert drive(config(tmp_path, "fails-early"), port) == 2
    progress = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/progress").read())
    assert progress["state"] == "Failed"
    assert progress["ending"]["message"] == "spec.data.train[0].uri: row 7 is empty"


def test_whoever_ends_the_drivers_processes_does_not_find_the_board(
    tmp_path: Path, boards: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray stops a job by ending its driver with all its children and their children."""
    drive(config(tmp_path, "fails-early"))
    assert boards[0] not in [child.pid for child in psutil.Process().children(recursive=True)]
    assert os.getsid(boards[0]) != os.getsid(0)


def test_a_board_that_stands_still_for_a_while_ends_no_attempt(
    tmp_path: Path, boards: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    post, unanswered = Desk._post, {"/endings", "/close"}

    def stumbling(desk: Desk, path: str, *arguments: Any) -> object:
        if path in unanswered:
            unanswered.remove(path)
            raise BoardLostError("timed out")
        return post(desk, path, *arguments)

    monkeypatch.setattr(Desk, "_post", stumbling)
    assert drive(config(tmp_path, "general")) == 0
    assert not unanswered


def test_a_board_that_dies_ends_the_attempt_with_a_sentence(
    tmp_path: Path, boards: list[int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pretune_trainer.drive.desk._PATIENCE", 0.0)

    def end_board() -> None:
        while not boards:
            time.sleep(0.01)
        end_process(boards[0])

    threading.Thread(target=end_board).start()
    left = threading.Event()

    def wait() -> None:
        left.wait()

    arguments = [str(config(tmp_path, "general")), "--host", "127.0.0.1", "--metrics-port", "0"]
    assert driver.main(arguments, lambda desk, settings: Group(wait)) == 1
    left.set()
    boards.clear()
    said = last_line(capsys)
    assert said["cause"] == "Unknown"
    assert "does not answer" in str(said["message"])


def test_sigterm_stops_the_ranks_and_leaves_with_its_own_status(
    tmp_path: Path, boards: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    def terminate() -> None:
        while not boards:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate).start()
    assert drive(config(tmp_path, "waits-long")) == 75
    assert last_line(capsys)["cause"] is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"{", "Invalid JSON"),
        (b'{"version": 2}', "version: Input should be 1; trainer and operator must have the same version"),
    ],
)
def test_a_run_config_that_is_not_understood_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, sentence: str
) -> None:
    file = tmp_path / "run.json"
    if content is not None:
        file.write_bytes(content)
    assert driver.main([str(file)], one_thread) == 2
    assert sentence in str(last_line(capsys)["message"])
