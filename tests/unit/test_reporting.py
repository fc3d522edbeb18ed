"""What rank 0 tells reaches the board and the storage, and never holds up training."""

import json
import math
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pretune_trainer.drive.board import Board
from pretune_trainer.drive.board_server import BoardServer
from pretune_trainer.drive.desk import Desk
from pretune_trainer.drive.reporting import Background, BoardSink, History, TensorBoard
from pretune_trainer.drive.wire import event_from_json, event_to_json
from pretune_trainer.errors import StorageError
from pretune_trainer.report import Committed, Evaluated, Event, Exhibited, Said, Start, Step

JOB = {"namespace": "local", "kind": "PretrainJob", "name": "general"}
TOKEN = "a-secret"
CONFIG = b"{}"
START = Start("causalLM", 3, 0, 100, 1000, 1000, 8, 4, 10)


def step(number: int) -> Step:
    return Step(number, 3.0, 1e-3, 0.5, tokens=1000, tokens_total=1000 * number, seconds=0.5, data_wait_seconds=0.1)


class Folder(dict[str, bytes]):
    """A store in memory that can be awaited."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def put(self, path: str, data: bytes) -> None:
        self[path] = data
        self.written.set()

    def chunks(self) -> list[str]:
        return [path for path in sorted(self) if path.endswith(".jsonl")]

    def history(self) -> list[dict[str, object]]:
        return [json.loads(line) for path in self.chunks() for line in self[path].splitlines()]


class SeenBoard:
    """A board with one order at work."""

    def __init__(self) -> None:
        self.heard: list[Event] = []
        self.said = threading.Event()
        self.board = Board(self._hear)
        self.order = self.board.put(JOB, "causalLM", {})
        self.board.next_order(0)

    def _hear(self, event: Event) -> None:
        self.heard.append(event)
        if isinstance(event, Said):
            self.said.set()


@pytest.fixture
def seen() -> SeenBoard:
    return SeenBoard()


@pytest.fixture
def sink(seen: SeenBoard) -> Iterator[BoardSink]:
    with BoardServer(seen.board, TOKEN) as server:
        yield BoardSink(Desk(f"http://127.0.0.1:{server.desk_port}", TOKEN), seen.order)


def test_numbers_that_are_not_finite_travel_as_null_at_any_depth() -> None:
    event = Exhibited(7, {"curve": [{"points": [1.0, math.nan, math.inf]}]})
    text = json.dumps(event_to_json(event), allow_nan=False)
    arrived = event_from_json(json.loads(text))
    assert isinstance(arrived, Exhibited)
    assert arrived.exhibits["curve"][0]["points"] == pytest.approx([1.0, math.nan, math.nan], nan_ok=True)


def test_every_event_reaches_the_board_and_the_storage_in_order(sink: BoardSink, seen: SeenBoard) -> None:
    folder = Folder()
    events: list[Event] = [
        START,
        *map(step, range(1, 200)),
        Evaluated(199, {"loss": 2.0}, 1.0),
        Committed(199, 0.0, 1.0, 9),
    ]
    with Background(sink, History(folder.put, CONFIG)) as reporter:
        for event in events:
            reporter.tell(event)
    assert seen.heard == events
    assert [line["event"] for line in folder.history()] == [type(event).__name__ for event in events]
    assert folder.chunks() == ["history/0003/00001.jsonl"]
    assert folder["history/0003/run.json"] == CONFIG


def test_the_history_is_complete_though_the_run_ends_with_an_error(sink: BoardSink) -> None:
    folder = Folder()

    def run() -> None:
        with Background(sink, History(folder.put, CONFIG)) as reporter:
            reporter.tell(START)
            reporter.tell(step(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert [line["event"] for line in folder.history()] == ["Start", "Step"]


def test_what_a_later_run_starts_from_has_its_history_though_this_one_is_killed(sink: BoardSink) -> None:
    folder = Folder()
    reporter = Background(sink, History(folder.put, CONFIG))
    with reporter:
        for event in (START, step(1), Committed(1, 0.0, 1.0, 9)):
            reporter.tell(event)
        while [line["event"] for line in folder.history()][-1:] != ["Committed"]:
            assert folder.written.wait(60)
            folder.written.clear()


def test_what_follows_the_last_commit_is_in_the_history_once_the_run_has_ended() -> None:
    folder = Folder()
    history = History(folder.put, CONFIG)
    history.write([replace(START, run=1)])
    history.write([step(1)])
    assert [line["event"] for line in folder.history()] == ["Start"], "a step alone is worth no request"
    history.close(None)
    assert [line["event"] for line in folder.history()] == ["Start", "Step"]


def test_a_long_history_is_written_in_chunks_and_none_is_written_for_ever() -> None:
    folder = Folder()
    history = History(folder.put, CONFIG)
    history.write([START])
    for number in range(1, 20_001, 500):
        history.write([*map(step, range(number, number + 500)), Committed(number, 0.0, 1.0, 9)])
    history.close(None)
    assert len(folder.chunks()) > 1
    assert all(len(data) < 1.2 * 2**20 for data in folder.values())
    steps = [line["step"] for line in folder.history() if line["event"] == "Step"]
    assert steps == list(range(1, 20_001))


def test_a_stop_is_heard_without_news_to_tell(
    sink: BoardSink, seen: SeenBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = threading.Event()
    write = sink.write

    def written(events: list[Event]) -> None:
        write(events)
        if sink.stop:
            heard.set()

    monkeypatch.setattr(sink, "write", written)
    with Background(sink) as reporter:
        assert not reporter.stop_requested()
        seen.board.stop()
        assert heard.wait(60)
        assert reporter.stop_requested()


def test_without_a_board_training_goes_on_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    folder = Folder()
    nobody = BoardSink(Desk("http://127.0.0.1:9", TOKEN), 1)
    with Background(nobody, History(folder.put, CONFIG)) as reporter:
        reporter.tell(START)
        reporter.tell(step(1))
    nobody.write([step(2)])
    nobody.write([step(3)])
    assert [line["event"] for line in folder.history()] == ["Start", "Step"]
    assert [record.message for record in caplog.records if "training continues" in record.message] != []
    assert len(caplog.records) == 1


def test_events_that_the_board_missed_are_told_when_it_is_back(seen: SeenBoard) -> None:
    sink = BoardSink(Desk("http://127.0.0.1:9", TOKEN), seen.order)
    sink.write([START, step(1)])
    with BoardServer(seen.board, TOKEN) as server:
        sink._desk = Desk(f"http://127.0.0.1:{server.desk_port}", TOKEN)
        sink.write([step(2)])
    assert seen.heard == [START, step(1), step(2)]


def test_a_history_that_a_store_could_not_take_is_written_once_it_can(caplog: pytest.LogCaptureFixture) -> None:
    folder, fails = Folder(), [True] * 2

    def put(path: str, data: bytes) -> None:
        if fails and fails.pop():
            raise StorageError("the store keeps failing")
        folder.put(path, data)

    history = History(put, CONFIG)
    for number in (1, 2, 3):
        history.write([START, step(number)])
    history.close(None)
    assert [line["step"] for line in folder.history() if line["event"] == "Step"] == [1, 2, 3]
    assert folder["history/0003/run.json"] == CONFIG
    assert [record.message for record in caplog.records] == [
        "the history cannot be written, training continues and the write is retried: the store keeps failing"
    ]


def test_a_history_that_cannot_be_written_is_given_up_in_words_and_training_goes_on(
    sink: BoardSink, seen: SeenBoard
) -> None:
    def full(path: str, data: bytes) -> None:
        raise OSError("no space left on device")

    with Background(sink, History(full, CONFIG)) as reporter:
        reporter.tell(START)
        assert seen.said.wait(60)
        reporter.tell(step(1))
    assert step(1) in seen.heard
    (said,) = [event.text for event in seen.heard if isinstance(event, Said)]
    assert said == "History has failed, training continues without it: no space left on device"


def test_a_sink_that_was_given_up_keeps_nothing_of_what_it_is_told(sink: BoardSink, seen: SeenBoard) -> None:
    def full(path: str, data: bytes) -> None:
        raise OSError("no space left on device")

    with Background(sink, History(full, CONFIG)) as reporter:
        reporter.tell(START)
        assert seen.said.wait(60)
        reporter.tell(told := step(1))
        kept = weakref.ref(told)
        del told
    assert step(1) in seen.heard
    assert kept() is None


def test_tensorboard_reads_what_was_told(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sink = TensorBoard(tmp_path)
    sink.write([START, step(1), step(2), Evaluated(2, {"accuracy": 0.5}, 1.0)])
    sink.close(None)
    seen = EventAccumulator(str(tmp_path / "0003")).Reload()
    assert [scalar.step for scalar in seen.Scalars("train/loss")] == [1, 2]
    assert [scalar.value for scalar in seen.Scalars("validation/accuracy")] == [0.5]
