"""Logs in a storage: complete and in order, bounded in memory and in objects, whatever the store does."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretune_api.status import MOST_LOG_BYTES
from pretune_api.storage import Location
from pretune_trainer.drive.logs import last_lines
from pretune_trainer.errors import StorageError
from pretune_trainer.storage import logs
from pretune_trainer.storage.logs import (
    DRIVER,
    LogReader,
    LogWriter,
    attempts_of,
    has_ended,
    log_folder,
    of_rank,
    processes_of,
)
from pretune_trainer.storage.store import Store


class Memory(dict[str, bytes]):
    """A store in memory that fails while it is `down`."""

    down = False

    def put(self, path: str, data: bytes) -> None:
        if self.down:
            raise StorageError("the store does not answer")
        self[path] = data

    def delete(self, path: str) -> None:
        self.pop(path, None)

    def text(self) -> bytes:
        return b"".join(self[path] for path in sorted(self))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a test reaches quickly."""
    monkeypatch.setattr(logs, "CHUNK_BYTES", 100)
    monkeypatch.setattr(logs, "MOST_CHUNKS", 5)


@given(st.lists(st.tuples(st.binary(max_size=5000), st.booleans(), st.booleans()), max_size=20))
def test_what_was_said_is_there_in_order_though_the_store_failed_in_between(
    said: list[tuple[bytes, bool, bool]],
) -> None:
    memory = Memory()
    writer = LogWriter(memory)
    for text, flushes, memory.down in said:
        writer.add(text)
        if flushes and memory.down and text:
            with pytest.raises(StorageError):
                writer.flush()
        elif flushes and not memory.down:
            writer.flush()
    memory.down = False
    writer.flush()
    assert memory.text() == b"".join(text for text, *_ in said)


@pytest.mark.usefixtures("small")
def test_no_chunk_is_larger_than_its_bound_and_the_oldest_make_way() -> None:
    memory = Memory()
    writer = LogWriter(memory)
    lines = [b"line %03d\n" % number for number in range(200)]
    for line in lines:
        writer.add(line)
        writer.flush()
    assert {len(chunk) for chunk in memory.values()} <= set(range(101))
    assert 4 <= len(memory) <= 5
    assert b"".join(lines).endswith(memory.text())


def test_while_a_store_is_down_little_is_kept_in_memory_and_it_is_said_how_much_was_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "MOST_PENDING", 1000)
    memory = Memory()
    memory.down = True
    writer = LogWriter(memory)
    for number in range(10_000):
        writer.add(b"line %05d\n" % number)
        assert len(writer._pending) < 1100
    memory.down = False
    writer.flush()
    text = memory.text()
    assert b"bytes are left out: the store is too slow]" in text
    assert text.endswith(b"line 09999\n")


def test_a_reader_gets_each_byte_once_while_the_log_grows_and_another_process_goes_on(tmp_path: Path) -> None:
    job = Store.open(Location(uri=tmp_path.as_uri()))
    folder = log_folder(job, 3, of_rank(0))
    reader, read = LogReader(folder), b""
    said = b""
    for process in (LogWriter(folder), LogWriter(folder)):
        for number in range(5):
            line = b"%d " % number * 50_000
            process.add(line)
            said += line
            process.flush()
            read += b"".join(reader.news())
    assert read == said


def test_a_reader_lists_no_chunk_that_is_full_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "CHUNK_BYTES", 100)
    folder = log_folder(Store.open(Location(uri=tmp_path.as_uri())), 1, DRIVER)
    writer, reader = LogWriter(folder), LogReader(folder)
    writer.add(b"x" * 950)
    writer.flush()
    assert len(b"".join(reader.news())) == 950
    assert len(folder.list(after=reader._full)) == 1
    writer.add(b"y" * 950)
    writer.flush()
    assert b"".join(reader.news()) == b"y" * 950


def test_an_attempt_has_ended_when_the_driver_that_began_last_says_so_or_another_has_begun(tmp_path: Path) -> None:
    job = Store.open(Location(uri=tmp_path.as_uri()))
    assert not has_ended(job, 1)
    for attempt in (1, 2):
        for _ in range(2):  # Kueue suspends and resumes an attempt: it has a driver again
            driver = LogWriter(log_folder(job, attempt, DRIVER))
            driver.add(b"begun")
            driver.flush()
            assert not has_ended(job, attempt)
            driver.end()
            assert has_ended(job, attempt)
    log_folder(job, 2, DRIVER).delete(max(each.path for each in log_folder(job, 2, DRIVER).list()))
    assert (has_ended(job, 1), has_ended(job, 2)) == (True, False)


def test_attempts_and_processes_are_found_and_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    job = Store.open(Location(uri=tmp_path.as_uri()))
    assert (attempts_of(job), processes_of(job, 1)) == ([], [])
    for attempt, process in ((2, of_rank(1)), (2, DRIVER), (11, DRIVER), (2, of_rank(0))):
        writer = LogWriter(log_folder(job, attempt, process))
        writer.add(b"x")
        writer.flush()
    assert attempts_of(job) == [2, 11]
    assert processes_of(job, 2) == ["driver", "rank-00000", "rank-00001"]


@given(st.text())
def test_last_lines_fit_into_a_status_whatever_was_said(text: str) -> None:
    kept = last_lines(text.encode(errors="replace"))
    assert len(kept.encode()) <= MOST_LOG_BYTES
    assert len(kept.split("\n")) <= 20


def test_last_lines_are_the_last_ones_without_colours_and_without_what_was_written_over() -> None:
    said = b"".join(b"line %d\n" % number for number in range(100))
    said += b"10%\r20%\r30%\n\x1b[36m(RayTrainWorker pid=7)\x1b[0m it broke\n\n"
    lines = last_lines(said).split("\n")
    assert lines == [*(f"line {number}" for number in range(82, 100)), "30%", "(RayTrainWorker pid=7) it broke"]


def test_of_lines_that_are_too_long_the_end_is_kept() -> None:
    kept = last_lines("ä".encode() * 5000 + b"\nthe end\n")
    assert kept.endswith("ä\nthe end")
    assert MOST_LOG_BYTES - 2 < len(kept.encode()) <= MOST_LOG_BYTES
