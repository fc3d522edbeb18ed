import threading
import time
import traceback
from collections.abc import Callable, Iterator

import pytest

from pretune_trainer.data.prefetch import Prefetch


def counted(made: list[int], upto: int = 1000) -> Iterator[int]:
    for number in range(upto):
        made.append(number)
        yield number


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_items_come_in_order_and_end() -> None:
    with Prefetch(iter(range(100)), 3) as ahead:
        assert list(ahead) == list(range(100))


def test_it_runs_ahead_by_so_many_items_and_no_further() -> None:
    made: list[int] = []
    with Prefetch(counted(made), 4) as ahead:
        until(lambda: len(made) == 4)
        next(ahead)
        until(lambda: len(made) == 5)
        assert len(made) == 5


def failing() -> Iterator[int]:
    yield 1
    raise ValueError("a damaged part")


def test_an_error_is_raised_after_the_items_before_it_with_its_traceback() -> None:
    with Prefetch(failing(), 2) as ahead:
        assert next(ahead) == 1
        with pytest.raises(ValueError, match="a damaged part") as caught:
            next(ahead)
        assert "failing" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


def test_closing_ends_the_thread_and_the_iterator_at_once() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    ahead = Prefetch(endless(), 2)
    next(ahead)
    started = time.monotonic()
    ahead.close(patience=60)
    assert closed.is_set()
    assert not ahead._thread.is_alive()
    assert time.monotonic() - started < 30


def test_closing_does_not_wait_for_an_item_that_never_comes() -> None:
    gate = threading.Event()

    def stuck() -> Iterator[bool]:
        yield gate.wait(60)

    ahead = Prefetch(stuck(), 2)
    started = time.monotonic()
    ahead.close(patience=0.1)
    assert time.monotonic() - started < 30
    gate.set()


def test_waiting_is_measured_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waits = 10.0, threading.Event()

    def clock() -> float:
        read = now
        waits.set()
        return read

    def slow() -> Iterator[bool]:
        nonlocal now
        heard = waits.wait(60)
        now += 2.5
        yield heard

    monkeypatch.setattr(time, "perf_counter", clock)
    with Prefetch(slow(), 2) as ahead:
        assert next(ahead)
        assert ahead.take_waited() == 2.5
        assert ahead.take_waited() == 0.0
