"""The board: what it shows to everyone, what it keeps for those with the token, and how orders pass over it."""

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pretune_api.problems import parse
from pretune_api.run_config import RunConfig
from pretune_operator.plan import Inputs, plan
from pretune_trainer.drive import prometheus
from pretune_trainer.drive.board import Board
from pretune_trainer.drive.board_server import BoardServer
from pretune_trainer.drive.desk import BoardLostError, Desk
from pretune_trainer.drive.tokens import TOKEN_VARIABLE
from pretune_trainer.drive.wire import Artifact, Ending, Order
from pretune_trainer.report import Committed, Evaluated, Event, Said, Start, Step
from support.specs import PRETRAIN, changed

JOB = {"namespace": "local", "kind": "PretrainJob", "name": "general"}
TOKEN = "a-secret"
START = Start("causalLM", 1, 0, 100, 1000, 1000, 8, 4, 10)
DONE = Ending(
    0, "finished", artifact=Artifact("file:///models/a", "sha256:" + "0" * 64), metrics={"loss": 2.0}, step=100
)


def step(number: int, loss: float = 3.0) -> Step:
    return Step(number, loss, 1e-3, 0.5, tokens=1000, tokens_total=1000 * number, seconds=0.5, data_wait_seconds=0.1)


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def server(board: Board) -> Iterator[BoardServer]:
    with BoardServer(board, TOKEN) as server:
        yield server


@pytest.fixture
def desk(server: BoardServer) -> Desk:
    return Desk(f"http://127.0.0.1:{server.desk_port}", TOKEN)


def at_work(board: Board) -> int:
    """A board whose ranks have taken an order."""
    number = board.put(JOB, "causalLM", {})
    assert board.next_order(0) is not None
    return number


def read(port: int, path: str, host: str = "127.0.0.1") -> str:
    with urllib.request.urlopen(f"http://{host}:{port}{path}") as answer:
        content: bytes = answer.read()
    return content.decode()


def test_progress_says_how_far_a_job_is(server: BoardServer, board: Board) -> None:
    number = at_work(board)
    board.take(
        number, [START, step(1), step(2, loss=2.5), Committed(2, 0.1, 1.0, 99), Evaluated(2, {"loss": 2.4}, 1.0)]
    )
    progress = json.loads(read(server.port, "/progress"))
    age = progress["checkpoint"].pop("ageSeconds")
    assert 0 <= age < 60
    assert progress == {
        "state": "Running",
        "stage": "causalLM",
        "job": JOB,
        "run": 1,
        "fromStep": 0,
        "step": 2,
        "total": 100,
        "percent": 2,
        "etaSeconds": 49.0,
        "loss": 2.5,
        "tokensPerSecond": 2000.0,
        "learningRate": 1e-3,
        "checkpoint": {"step": 2},
        "metrics": {"loss": 2.4},
        "ending": None,
    }


@pytest.mark.parametrize("size", [-1, 10**9])
def test_who_reads_how_far_a_job_is_fills_no_memory_with_a_body(server: BoardServer, size: int) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(f"GET /progress HTTP/1.0\r\nContent-Length: {size}\r\n\r\n".encode())
        assert connection.recv(1_000).startswith(b"HTTP/1.0 200 OK")


def test_metrics_are_those_that_are_documented_with_namespace_kind_and_name(server: BoardServer, board: Board) -> None:
    number = at_work(board)
    found = Evaluated(1, {"loss": 2.4, "perplexity": 11.0}, 1.0)
    events: list[Event] = [START, step(1), Committed(1, 0.1, 1.0, 99), found]
    board.take(number, events)
    families = {family.name: family for family in text_string_to_metric_families(read(server.port, "/metrics"))}
    names = {value.removesuffix("_total") for name, value in vars(prometheus).items() if value_is_metric(value)}
    assert names <= families.keys()
    for family in families.values():
        assert all(JOB.items() <= sample.labels.items() for sample in family.samples), family.name
    evaluation = {sample.labels["metric"]: sample.value for sample in families[prometheus.EVALUATION].samples}
    assert evaluation == {"loss": 2.4, "perplexity": 11.0}
    assert families[prometheus.TOKENS_PER_SECOND].samples[0].value == 2000.0


def test_a_job_is_running_until_it_ends_and_what_a_loss_would_cost_is_told(server: BoardServer, board: Board) -> None:
    number = at_work(board)
    board.take(number, [START, step(11), Committed(11, 0.1, 1.0, 99), step(12), step(13)])
    assert (gauge(server, prometheus.RUNNING), gauge(server, prometheus.UNCOMMITTED_STEPS)) == (1, 2)
    assert gauge(server, prometheus.CHECKPOINT_INTERVAL) == START.checkpoint_every
    board.take(number, [Start("causalLM", 2, 11, 100, 1000, 1000, 8, 4, 10)])
    assert gauge(server, prometheus.UNCOMMITTED_STEPS) == 0
    board.end(number, DONE)
    at_work(board)  # the next job of a chain, of which nothing has been read yet
    assert gauge(server, prometheus.RUNNING) == 0


def test_a_job_prepares_from_when_its_ranks_take_it_until_training_starts(server: BoardServer, board: Board) -> None:
    number = at_work(board)
    assert gauge(server, prometheus.PREPARING_SECONDS) > 0
    board.take(number, [START])
    assert gauge(server, prometheus.PREPARING_SECONDS) == 0


def test_each_metric_is_the_figure_that_was_told(server: BoardServer, board: Board) -> None:
    told = Step(11, 3.0, 1e-3, 0.5, 1000, 9000, 2.0, 0.125, True, 0.375, 3, 0.75, 0.25, 77)
    board.take(at_work(board), [START, told, Committed(11, 0.5, 1.5, 99)])
    samples = (
        sample for family in text_string_to_metric_families(read(server.port, "/metrics")) for sample in family.samples
    )
    values = {(sample.name, sample.labels.get("rank")): sample.value for sample in samples}
    expected = {
        (prometheus.STEP, None): 11,
        (prometheus.STEPS_PLANNED, None): 100,
        (prometheus.TOKENS, None): 1000,
        (prometheus.LOSS, None): 3.0,
        (prometheus.LEARNING_RATE, None): 1e-3,
        (prometheus.GRAD_NORM, None): 0.5,
        (prometheus.MFU, None): 0.375,
        (prometheus.DATA_WAIT_SECONDS, None): 0.125,
        (f"{prometheus.STEP_SECONDS}_sum", None): 2.0,
        (prometheus.SKIPPED_STEPS, None): 1,
        (prometheus.MEMORY, None): 77,
        (prometheus.SLOWEST_RANK, None): 3,
        (prometheus.RANK_BATCH_SECONDS, "slowest"): 0.75,
        (prometheus.RANK_BATCH_SECONDS, "fastest"): 0.25,
        (prometheus.CHECKPOINT_STEP, None): 11,
        (f"{prometheus.CHECKPOINT_SECONDS}_sum", None): 1.5,
        (prometheus.CHECKPOINT_BLOCKED_SECONDS, None): 0.5,
        (prometheus.RUNS, None): 1,
    }
    assert values.items() >= expected.items()


def test_what_is_told_late_of_an_order_that_is_over_is_not_taken_for_the_next(board: Board) -> None:
    first = at_work(board)
    board.end(first, DONE)
    second = at_work(board)
    board.take(first, [START, step(50)])
    board.end(first, Ending(1, "the ranks were lost", "Unknown"))
    assert (board.progress()["state"], board.progress()["step"]) == ("Starting", 0)
    assert board.ending(second, 0.0) is None


def test_an_ending_that_knows_nothing_of_the_run_says_how_far_it_was(board: Board) -> None:
    number = at_work(board)
    board.take(number, [START, step(11), Evaluated(10, {"loss": 2.4}, 1.0)])
    board.end(number, Ending(1, "the ranks were lost", "Unknown"))
    ending = board.ending(number, 0.0)
    assert ending is not None
    assert (ending.step, ending.metrics) == (11, {"loss": 2.4})


def test_a_checkpoint_that_a_run_could_not_start_from_is_none_that_counts(server: BoardServer, board: Board) -> None:
    number = at_work(board)
    board.take(number, [START, step(20), Committed(20, 0.1, 1.0, 99)])
    board.take(number, [Start("causalLM", 2, 10, 100, 1000, 1000, 8, 4, 10), step(11)])
    assert gauge(server, prometheus.UNCOMMITTED_STEPS) == 1
    assert json.loads(read(server.port, "/progress"))["checkpoint"] is None


def gauge(server: BoardServer, name: str) -> float:
    families = {family.name: family for family in text_string_to_metric_families(read(server.port, "/metrics"))}
    (sample,) = families[name].samples
    return sample.value


def value_is_metric(value: object) -> bool:
    return isinstance(value, str) and value.startswith("pretune_train_")


def test_a_loss_that_is_not_a_number_leaves_progress_valid_json(server: BoardServer, board: Board) -> None:
    board.take(at_work(board), [START, step(1, loss=float("nan"))])
    text = read(server.port, "/progress")
    assert "NaN" not in text
    assert json.loads(text)["loss"] is None


def test_a_figure_that_does_not_exist_ends_neither_progress_nor_the_way_to_stop(
    server: BoardServer, board: Board, desk: Desk
) -> None:
    number = at_work(board)
    board.stop()
    assert desk.tell(number, [START, Evaluated(1, {"aurocMacro": float("nan"), "accuracy": 1.0}, 1.0)])
    assert json.loads(read(server.port, "/progress"))["metrics"] == {"aurocMacro": None, "accuracy": 1.0}


def test_steps_left_out_and_those_done_again_after_a_loss_do_not_count_as_goodput(board: Board) -> None:
    number = at_work(board)
    assert board._progress is not None
    board._progress._since -= 100  # the order was taken so many seconds ago
    board.take(number, [START, step(1), step(2), replace(step(3), skipped=True)])
    assert board._progress.goodput == pytest.approx(0.01, rel=0.05)
    board.take(number, [Start("causalLM", 2, 0, 100, 1000, 1000, 8, 4, 10), step(1), step(2)])
    assert board._progress.goodput == pytest.approx(0.01, rel=0.05)


def test_before_any_order_progress_says_waiting(server: BoardServer) -> None:
    assert json.loads(read(server.port, "/progress")) == {"state": "Waiting"}


def test_who_hangs_up_before_the_answer_is_no_news(
    server: BoardServer, board: Board, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, gone = threading.Event(), threading.Event()
    answering: list[threading.Thread] = []

    def slow_metrics() -> bytes:
        answering.append(threading.current_thread())
        asked.set()
        gone.wait(60)
        return b"x" * (1 << 24)  # more than any buffer on the way holds

    monkeypatch.setattr(board, "metrics", slow_metrics)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert asked.wait(60)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by reset
    gone.set()
    answering[0].join(60)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x"])
def test_the_desk_is_forbidden_without_its_token(server: BoardServer, board: Board, token: str) -> None:
    intruder, begun = Desk(f"http://127.0.0.1:{server.desk_port}", token), time.monotonic()
    for call in (intruder.stop, intruder.close, intruder.next_order, lambda: intruder.tell(1, [])):
        with pytest.raises(BoardLostError, match="401"):
            call()
    assert time.monotonic() - begun < 30, "who refuses is not asked again"
    number = at_work(board)
    assert board.take(number, []) is False


def test_the_public_port_changes_nothing(server: BoardServer) -> None:
    for path in ("/stop", "/orders", "/ending", "/order"):
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method="POST", data=b"{}")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(request)


def test_an_order_passes_from_driver_to_ranks_and_its_ending_back(board: Board, desk: Desk) -> None:
    number = board.put(JOB, "causalLM", {"version": 1})
    order = desk.next_order()
    assert order is not None
    assert (order.number, order.job, order.stage, order.config) == (number, JOB, "causalLM", {"version": 1})
    assert desk.ending(number, 0.0) is None
    desk.end(number, DONE)
    assert desk.ending(number, 0.0) == DONE
    assert board.progress()["state"] == "Succeeded"
    assert board.progress()["ending"]["artifact"]["uri"] == "file:///models/a"


def test_ranks_that_were_lost_are_given_the_same_order_again(board: Board, desk: Desk) -> None:
    board.put(JOB, "causalLM", {})
    board.put(JOB, "causalLM", {})
    first = desk.next_order()
    assert desk.next_order() == first


def test_the_first_word_on_an_ending_stands(board: Board, desk: Desk) -> None:
    number = at_work(board)
    desk.end(number, Ending(2, "row 7 is empty", "UserError"))
    desk.end(number, Ending(1, "another rank is gone", "Unknown"))
    assert desk.ending(number, 0.0) == Ending(2, "row 7 is empty", "UserError")


def test_a_rank_waits_for_an_order_that_comes_later(board: Board, desk: Desk) -> None:
    taken: list[Order | None] = []
    rank = threading.Thread(target=lambda: taken.append(desk.next_order()))
    rank.start()
    board.put(JOB, "causalLM", {})
    rank.join(60)
    (order,) = taken
    assert order is not None
    assert order.number == 1


def test_no_more_orders_is_an_answer(board: Board, desk: Desk) -> None:
    board.close()
    assert desk.next_order() is None


def test_a_stop_reaches_rank_0_with_the_answer_to_its_next_word(board: Board, desk: Desk) -> None:
    number = at_work(board)
    assert desk.tell(number, [START, Said("hello")]) is False
    desk.stop()
    assert desk.tell(number, []) is True
    assert board.progress()["state"] == "Stopping"


def test_an_order_that_no_rank_has_taken_ends_with_the_stop(board: Board, desk: Desk) -> None:
    number = board.put(JOB, "causalLM", {})
    board.stop()
    ending = desk.ending(number, 0.0)
    assert ending is not None
    assert ending.exit_code == 75
    assert desk.next_order() is None
    assert board.progress()["state"] == "Stopped"


def test_events_survive_the_journey(board: Board, desk: Desk) -> None:
    heard: list[object] = []
    board._listener = heard.append
    number = at_work(board)
    found = Evaluated(1, {"loss": 2.4}, 1.0)
    events: list[Event] = [START, step(1), Committed(1, 0.1, 1.0, 99), found, Said("a sentence")]
    desk.tell(number, events)
    assert heard == events


def test_the_board_is_a_process_that_starts_without_torch() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "pretune_trainer.drive.board_server"]
    environment = {**os.environ, TOKEN_VARIABLE: TOKEN}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        ports = json.loads(process.stdout.readline())
        assert json.loads(read(ports["port"], "/progress")) == {"state": "Waiting"}
        process.terminate()
        _, imported = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "prometheus_client" in imported
    assert not any(heavy in imported for heavy in ("| torch", "| ray", "| transformers"))


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="the machine has no IPv6")
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_board_that_listens_everywhere_is_reached_at_addresses_of_both_families(board: Board, host: str) -> None:
    with BoardServer(board, TOKEN, "::") as server:
        assert json.loads(read(server.port, "/progress", host)) == {"state": "Waiting"}
        Desk(f"http://{host}:{server.desk_port}", TOKEN).close()


def test_a_null_that_is_a_choice_reaches_the_ranks(desk: Desk) -> None:
    job = parse(changed(PRETRAIN, {"spec.training.gradientClip": None}))
    config = plan(job, Inputs(uid="0123abcd", namespace="local", ranks=1, device="cpu"))
    desk.put(config)
    order = desk.next_order()
    assert order is not None
    assert RunConfig.model_validate(order.config) == config


def test_progress_says_which_attempt_at_which_job_it_is_of(desk: Desk, server: BoardServer) -> None:
    config = plan(parse(PRETRAIN), Inputs(uid="0123abcd", namespace="local", ranks=1, device="cpu", attempt=3))
    number = desk.put(config)
    desk.next_order()
    assert json.loads(read(server.port, "/progress"))["job"] == JOB | {"uid": "0123abcd", "attempt": 3}
    desk.tell(number, [START])
    assert {*JOB} == _labels_of(server, prometheus.RUNNING), "neither is a label: each attempt would have its series"


def _labels_of(server: BoardServer, name: str) -> set[str]:
    families = {family.name: family for family in text_string_to_metric_families(read(server.port, "/metrics"))}
    return {label for sample in families[name].samples for label in sample.labels}
