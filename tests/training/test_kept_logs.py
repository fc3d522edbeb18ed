"""What a process says is kept while it says it, however it says it, and whatever becomes of the store."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from pretune_api.run_config import RunConfig
from pretune_api.storage import Location
from pretune_trainer.drive import logs
from pretune_trainer.drive.log_sink import LogSink
from pretune_trainer.drive.logs import Log, Loggers, Output, in_storage
from pretune_trainer.drive.wire import Ending
from pretune_trainer.report import Committed, Evaluated, Said, Start, Step
from pretune_trainer.storage.logs import DRIVER, LogReader, LogWriter, attempts_of, log_folder, of_rank, processes_of
from pretune_trainer.storage.store import Store
from support.faulty_proxy import Fault, proxy
from support.s3 import S3Server
from support.stand_in import told

PROGRAM = """
import os, signal, sys
from pretune_trainer import main
from pretune_trainer.drive.group import in_process
from support.stand_in import obey

def talk(config, ranks, reporter):
    os.write(1, b"said past Python\\n")
    print("said on standard error", file=sys.stderr)
    return obey(config, ranks, reporter)

boards, launch = [], main._launch_board
main._launch_board = lambda *arguments: boards.append(launch(*arguments)) or boards[0]
status = main.main(sys.argv[1:], lambda desk, settings: in_process(desk, settings.device, talk))
os.kill(boards[0]["pid"], signal.SIGTERM)
os._exit(status)
"""


class Memory(dict[str, bytes]):
    """A store in memory, as slow as a test wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()
        self.answers.set()
        self.tries = 0

    def put(self, path: str, data: bytes) -> None:
        self.tries += 1
        self.answers.wait()
        self[path] = data

    def delete(self, path: str) -> None:
        del self[path]

    def text(self) -> str:
        return b"".join(self[path] for path in sorted(self)).decode()


class Broken(Memory):
    """A store that fails."""

    def put(self, path: str, data: bytes) -> None:
        self.tries += 1
        raise OSError("no route to host")


@pytest.fixture
def printed(tmp_path: Path) -> Iterator[int]:
    """A file that a process prints into, as Ray's workers do."""
    descriptor = os.open(tmp_path / "worker.out", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def test_all_that_is_printed_is_kept_but_what_ray_prints_for_itself(printed: int) -> None:
    memory, output = Memory(), Output(printed, printed)
    os.write(printed, b":job_id:01000000\nimported\n:actor_name:RayTrainWorker\nbegun, ")
    with Log(LogWriter(memory), output):
        os.write(printed, b"ended\nwithout an end of line")
    assert memory.text() == "imported\nbegun, ended\nwithout an end of line"


def test_what_is_printed_between_two_orders_belongs_to_the_next(printed: int) -> None:
    first, second, output = Memory(), Memory(), Output(printed)
    with Log(LogWriter(first), output):
        os.write(printed, b"one\n")
    os.write(printed, b"two\n")
    with Log(LogWriter(second), output):
        pass
    assert (first.text(), second.text()) == ("one\n", "two\n")


def test_loggers_are_heard_and_no_longer_than_asked() -> None:
    memory = Memory()
    with Log(LogWriter(memory), Loggers()) as log:
        logging.getLogger("nccl").warning("no route")
        log.say("in words")
    logging.getLogger("nccl").warning("too late")
    first, second = memory.text().splitlines()
    assert first.endswith("nccl no route")
    assert second.endswith("in words")


def test_what_a_library_logs_in_a_form_that_does_not_fit_disturbs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    memory, loggers = Memory(), Loggers()
    with Log(LogWriter(memory), loggers) as log:
        loggers.handle(logging.LogRecord("nccl", logging.WARNING, __file__, 1, "%d routes", ("no",), None))
        log.say("training goes on")
    assert memory.text().endswith("training goes on\n")
    assert "%d routes" in capsys.readouterr().err


def test_an_error_that_ends_it_is_in_it(printed: int) -> None:
    memory = Memory()
    with pytest.raises(ZeroDivisionError), Log(LogWriter(memory), Loggers()):
        raise ZeroDivisionError("by nought")
    assert memory.text().splitlines()[-1] == "ZeroDivisionError: by nought"


def test_it_is_in_storage_long_before_the_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_POLL_SECONDS", 0.01)
    memory, there = Memory(), threading.Event()
    writer = LogWriter(memory)
    flush = writer.flush

    def flushed() -> None:
        flush()
        if memory:
            there.set()

    monkeypatch.setattr(writer, "flush", flushed)
    with Log(writer, Loggers()) as log:
        log.say("begun")
        assert there.wait(20)
        assert "begun" in memory.text()


def test_a_store_that_fails_is_said_once_and_disturbs_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(logs, "_FLUSH_SECONDS", 0.0)
    broken = Broken()
    with Log(LogWriter(broken), Loggers()) as log:
        log.say("begun")
        while broken.tries < 3:
            assert log._thread.is_alive()
        assert log.last_lines().splitlines()[0].endswith("begun")
    [said] = [record.message for record in caplog.records]
    assert said == "the log cannot be written, training continues and the write is retried: no route to host"


def test_a_store_that_stalls_holds_up_neither_what_is_said_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_LAST_SECONDS", 0.1)
    memory = Memory()
    memory.answers.clear()
    with Log(LogWriter(memory), Loggers()) as log:
        log.say("begun")
    assert memory == {}
    memory.answers.set()
    log._thread.join(20)
    assert "begun" in memory.text()


def test_a_failure_gets_last_lines_unless_it_has_those_of_a_rank() -> None:
    with Log(LogWriter(Memory()), Loggers()) as log:
        log.say("the driver saw this")
        told = [log.ended(Ending(1, "it broke", "Unknown", log=lines)).log for lines in (None, "a rank saw that")]
        assert log.ended(Ending(0, "finished")).log is None
    assert "the driver saw this" in str(told[0])
    assert told[1] == "a rank saw that"


def test_what_a_run_tells_is_said_in_words_but_not_every_step() -> None:
    said: list[str] = []
    told = LogSink(said.append)
    told.write([Start("causalLM", 3, 100, 400, 9000, 10, 8, 4, 10)])
    told.write([Step(number, 3.0, 1e-3, 0.5, 1000, 1000 * number, 0.5, 0.0) for number in range(101, 200)])
    told.write([Evaluated(200, {"loss": 2.0, "recall[cat]": 0.5}, 1.0), Committed(200, 0.0, 1.5, 4096), Said("odd")])
    assert said == [
        "run 3: causalLM, 9,000 parameters, 10 of them trained, from step 100 of 400",
        "step 101: loss 3.0000, 2,000 tokens/s",
        "step 200: loss 2",
        "step 200 is committed, 4,096 bytes in 1.5 s",
        "odd",
    ]


def config(name: str, storage: Location) -> RunConfig:
    """What the third attempt at a job is told to do."""
    return told(storage.model_dump(), name=name).model_copy(update={"attempt": 3})


def test_a_log_is_written_and_read_in_an_object_store(s3: S3Server) -> None:
    third = config("general", s3.new_folder())
    with in_storage(Loggers())(third, DRIVER) as log:
        log.say("begun")
    job = Store.open(third.storage).child(third.job.folder)
    assert (attempts_of(job), processes_of(job, 3)) == ([3], ["driver"])
    [said] = LogReader(log_folder(job, 3, DRIVER)).news()
    assert said.endswith(b"begun\n")


@pytest.mark.parametrize("fault", get_args(Fault))
def test_the_end_of_a_log_is_kept_though_the_store_fails_just_then(
    s3: S3Server, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_REQUEST_SECONDS", 1.0)
    folder = s3.new_folder()
    with proxy(s3.endpoint) as faulty:
        third = config("general", folder.model_copy(update={"endpoint": faulty.endpoint}))
        with in_storage(Loggers())(third, of_rank(0)) as log:
            faulty.faults = [fault]
            log.say("begun")
        assert faulty.faults == []
    [said] = LogReader(log_folder(Store.open(folder).child(third.job.folder), 3, of_rank(0))).news()
    assert said.endswith(b"begun\n")


def test_a_store_that_cannot_be_reached_is_given_up(
    s3: S3Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_LAST_SECONDS", 2.0)
    nowhere = s3.new_folder().model_copy(update={"endpoint": "http://127.0.0.1:9"})
    with in_storage(Loggers())(config("general", nowhere), DRIVER) as log:
        log.say("begun")
    log._thread.join(20)
    assert not log._thread.is_alive()
    [said] = [record.message for record in caplog.records if "training continues" in record.message]
    assert "the store cannot be reached" in said


def test_a_driver_whose_output_is_a_file_as_under_ray_leaves_all_of_it_and_its_last_lines(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(config("breaks-down", Location(uri=(tmp_path / "storage").as_uri())).model_dump_json())
    arguments = [str(file), "--host", "127.0.0.1", "--metrics-port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    output = tmp_path / "job-driver.log"
    with output.open("w") as printed:
        command = [sys.executable, "-c", PROGRAM, *arguments]
        assert subprocess.run(command, stdout=printed, stderr=subprocess.STDOUT, env=environment).returncode == 1
    folder = tmp_path / "storage/team-a/pretrainjob-breaks-down-0b9c3a0e/logs/attempt-0003"
    assert sorted(process.name for process in folder.iterdir()) == ["driver", "rank-00000"]
    chunk, end = sorted((folder / "driver").iterdir())
    assert end.suffix == ".ended"
    text = chunk.read_text()
    for said in ("said past Python", "said on standard error", "Traceback", "Failed: KeyError: 'weight'"):
        assert said in text
    ending = json.loads(output.read_text().splitlines()[-1])["ending"]
    assert "KeyError: 'weight'" in ending["log"]
    assert output.read_text().startswith(text)
