"""What a pod does before it is stopped, with a real board, as a process, and a real hook."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pretune_api.names import DESK_FILE_VARIABLE
from pretune_api.run_config import RunConfig
from pretune_operator.plan import Inputs, plan
from pretune_trainer.drive import drain
from pretune_trainer.drive.desk import Desk
from pretune_trainer.drive.tokens import TOKEN_VARIABLE, desk_token
from pretune_trainer.drive.wire import Ending
from support.ports import free_port
from support.views import view

RunningBoard = tuple[subprocess.Popen[str], Desk, int]
"""Its process, its desk and its read-only port."""

STOPPED = Ending(75, "stopped at step 10, which is committed", step=10)


@dataclass
class Pod:
    """A pod's environment: Ray's token, and the file in which its ranks leave the desk's address."""

    environment: dict[str, str]
    desk_file: Path

    @contextmanager
    def board(self) -> Iterator[RunningBoard]:
        command = [sys.executable, "-m", "pretune_trainer.drive.board_server"]
        environment = self.environment | {TOKEN_VARIABLE: desk_token()}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            ports = json.loads(process.stdout.readline())
            try:
                yield process, Desk(f"http://127.0.0.1:{ports['deskPort']}", desk_token()), ports["port"]
            finally:
                process.terminate()

    @contextmanager
    def drain(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """The hook, as the kubelet starts it."""
        command = [sys.executable, "-m", "pretune_trainer.drive.drain", *arguments]
        with subprocess.Popen(command, env=self.environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pod:
    file = tmp_path / "desk"
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-ray")
    monkeypatch.setenv(DESK_FILE_VARIABLE, str(file))
    return Pod(dict(os.environ), file)


@pytest.fixture
def board(pod: Pod) -> Iterator[RunningBoard]:
    with pod.board() as board:
        board[1].leave_address()
        yield board


def ordered(desk: Desk, config: RunConfig) -> int:
    """An order that ranks have taken."""
    desk.put(config)
    order = desk.next_order()
    assert order is not None
    return order.number


def stop_seen(desk: Desk, number: int) -> None:
    """Wait, as rank 0 does, until the ranks shall stop."""
    late = time.monotonic() + 60
    while not desk.tell(number, []):
        assert time.monotonic() < late, "nobody asks the ranks to stop"
        time.sleep(0.01)


def progress(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/progress") as answer:
        said: dict[str, Any] = json.loads(answer.read())
    return said


@pytest.fixture
def config() -> RunConfig:
    return plan(view().resource, Inputs("0123abcd-3a55", "team", 1, "cpu"))


def test_a_pod_ends_once_its_run_has_committed(pod: Pod, board: RunningBoard, config: RunConfig) -> None:
    _, desk, port = board
    number = ordered(desk, config)
    with pod.drain("--seconds", "600") as hook:
        stop_seen(desk, number)
        assert progress(port)["state"] == "Stopping"
        assert hook.poll() is None
        desk.end(number, STOPPED)
        assert hook.wait(120) == 0
    assert progress(port)["state"] == "Stopped"


def test_a_pod_does_not_wait_longer_than_it_may(pod: Pod, board: RunningBoard, config: RunConfig) -> None:
    ordered(board[1], config)
    with pod.drain("--seconds", "0.2") as hook:
        _, said = hook.communicate(timeout=120)
    assert hook.returncode == 1
    assert "have not come to rest in time" in said


def test_the_heads_last_word_can_be_read_before_it_goes(pod: Pod, board: RunningBoard, config: RunConfig) -> None:
    _, desk, port = board
    number = ordered(desk, config)
    with pod.drain("--seconds", "600", "--linger", "1.5") as hook:
        stop_seen(desk, number)
        ended = time.monotonic()
        desk.end(number, STOPPED)
        assert hook.wait(120) == 0
        assert time.monotonic() - ended >= 1.5
        assert progress(port)["ending"]["message"] == STOPPED.message


def test_a_pod_whose_order_has_ended_goes_at_once(pod: Pod, board: RunningBoard, config: RunConfig) -> None:
    _, desk, _ = board
    desk.end(ordered(desk, config), STOPPED)
    with pod.drain("--seconds", "600", "--linger", "600") as hook:
        assert hook.wait(120) == 0


def test_an_order_that_no_rank_has_taken_never_starts(pod: Pod, board: RunningBoard, config: RunConfig) -> None:
    _, desk, _ = board
    number = desk.put(config)
    with pod.drain("--seconds", "600") as hook:
        assert hook.wait(120) == 0
    ending = desk.ending(number, 0.0)
    assert ending is not None
    assert ending.exit_code == 75


def test_a_driver_whose_pods_were_stopped_before_it_had_an_order_hears_so(
    pod: Pod, board: RunningBoard, config: RunConfig
) -> None:
    _, desk, _ = board
    with pod.drain("--seconds", "600") as hook:
        assert hook.wait(120) == 0
    ending = desk.ending(desk.put(config), 0.0)
    assert ending is not None
    assert ending.exit_code == 75


def test_a_pod_in_which_no_rank_has_started_goes_at_once(pod: Pod) -> None:
    with pod.drain("--seconds", "600") as hook:
        assert hook.wait(120) == 0


def test_a_pod_whose_board_is_gone_goes(pod: Pod, config: RunConfig) -> None:
    with ExitStack() as stack:
        process, desk, _ = stack.enter_context(pod.board())
        desk.leave_address()
        number = ordered(desk, config)
        hook = stack.enter_context(pod.drain("--seconds", "600"))
        stop_seen(desk, number)
        process.terminate()
        assert hook.wait(120) == 0


def test_a_head_without_a_board_goes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DESK_FILE_VARIABLE, raising=False)
    monkeypatch.setattr(drain, "DESK_PORT", free_port())
    assert drain.main(["--seconds", "60"]) == 0


def test_every_process_of_a_ray_cluster_knows_the_token_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-ray")
    derived = desk_token()
    assert derived == desk_token()
    assert "of-ray" not in derived
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-another")
    assert desk_token() != derived
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    assert desk_token() != desk_token()


def test_a_given_token_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "given")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-ray")
    assert desk_token() == "given"


def test_the_hook_imports_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import pretune_trainer.drive.drain"]
    imported = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert "pretune_trainer.drive.desk" in imported
    assert not any(heavy in imported for heavy in ("| torch", "| ray", "| transformers", "| prometheus_client"))
