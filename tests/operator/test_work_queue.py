"""The work queue's promises, on a clock that stands still until it is told to move."""

import threading
import tracemalloc
from collections import Counter

import pytest

from pretune_operator.work_queue import FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS, Workers, WorkQueue


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[str]:
    return WorkQueue(clock)


def drained(queue: WorkQueue[str]) -> list[str]:
    """What there is to take now."""
    queue.add_after("last", 0)
    taken = []
    while (key := queue.take()) != "last":
        assert key is not None
        taken.append(key)
        queue.done(key)
    queue.done("last")
    return taken


def test_a_key_that_is_added_twice_is_worked_on_once(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.add("b")
    queue.add("a")
    assert len(queue) == 2
    assert drained(queue) == ["a", "b"]


def test_a_key_that_is_added_while_it_is_worked_on_is_worked_on_once_more_afterwards(queue: WorkQueue[str]) -> None:
    queue.add("a")
    assert queue.take() == "a"
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert drained(queue) == ["a"]


def test_urgent_keys_go_first_in_the_order_in_which_they_came(clock: Clock) -> None:
    queue = WorkQueue(clock, urgent=str.isupper)
    for key in "aBcD":
        queue.add(key)
    assert len(queue) == 4
    assert drained(queue) == ["B", "D", "a", "c"]


def test_an_urgent_key_that_has_failed_keeps_no_other_waiting(clock: Clock) -> None:
    queue = WorkQueue(clock, urgent=str.isupper)
    queue.add("A")
    assert queue.take() == "A"
    queue.done("A")
    queue.add("b")
    queue.retry("A")
    clock.now += 1
    assert drained(queue) == ["b", "A"]
    queue.succeeded("A")
    for key in "bA":
        queue.add(key)
    assert drained(queue) == ["A", "b"]


def test_it_is_calm_once_no_urgent_key_waits_or_is_worked_on(clock: Clock) -> None:
    queue, calm = WorkQueue(clock, urgent=str.isupper), threading.Event()

    def wait() -> None:
        queue.wait_for_calm(30)
        calm.set()

    for key in "aB":
        queue.add(key)
    urgent = [queue.has_urgent]
    waiting = threading.Thread(target=wait)
    waiting.start()
    assert queue.take() == "B"
    assert [*urgent, queue.has_urgent] == [True, False]
    assert not calm.is_set()
    queue.done("B")
    assert calm.wait(30)
    waiting.join()


def test_who_waits_for_calm_is_let_go_when_the_queue_is_closed(clock: Clock) -> None:
    queue = WorkQueue(clock, urgent=str.isupper)
    queue.add("B")
    waiting = threading.Thread(target=queue.wait_for_calm, args=(600,), daemon=True)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    queue.close()
    waiting.join(30)
    assert not waiting.is_alive()


def test_nobody_waits_for_calm_for_ever(clock: Clock) -> None:
    queue = WorkQueue(clock, urgent=str.isupper)
    queue.add("B")
    queue.wait_for_calm(0.01)
    assert queue.has_urgent
    queue.close()
    queue.wait_for_calm(1_000_000)


def test_what_is_due_later_is_taken_when_its_time_has_come(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_after("a", 10)
    assert drained(queue) == []
    clock.now += 10
    assert drained(queue) == ["a"]


def test_what_is_put_off_again_and_again_takes_no_more_room(queue: WorkQueue[str], clock: Clock) -> None:
    tracemalloc.start()
    try:
        for _ in range(50_000):
            clock.now += 1
            queue.add_after("a", 10_000_000)
            queue.add_after("b", 20_000_000)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000
    clock.now += 10_000_000
    assert drained(queue) == ["a"]
    clock.now += 10_000_000
    assert drained(queue) == ["b"]


def test_the_last_word_says_when_a_key_is_due(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_after("sooner", 50)
    queue.add_after("sooner", 1)
    queue.add_after("later", 1)
    queue.add_after("later", 50)
    queue.add_after("never", 1)
    queue.cancel("never")
    clock.now += 10
    assert drained(queue) == ["sooner"]
    clock.now += 50
    assert drained(queue) == ["later"]


def test_the_pause_after_a_failure_doubles_up_to_a_minute_and_starts_anew_after_success(
    queue: WorkQueue[str], clock: Clock
) -> None:
    assert [queue.retry("a") for _ in range(3)] == [1, 2, 3]
    clock.now += FIRST_RETRY_SECONDS * 2
    assert drained(queue) == []
    clock.now += FIRST_RETRY_SECONDS * 2
    assert drained(queue) == ["a"]
    for _ in range(100):
        queue.retry("a")
    clock.now += LAST_RETRY_SECONDS
    assert drained(queue) == ["a"]
    for _ in range(1_100):  # some 18 hours; 2.0 ** 1024 is no number any more
        queue.retry("a")
    queue.succeeded("a")
    assert queue.retry("a") == 1


def test_the_pause_is_as_long_as_the_server_asks_for_but_no_longer_than_a_minute(
    queue: WorkQueue[str], clock: Clock
) -> None:
    queue.retry("a", least=7)
    queue.retry("b", least=3_600)
    clock.now += 6.9
    assert drained(queue) == []
    clock.now += 0.1
    assert drained(queue) == ["a"]
    clock.now += LAST_RETRY_SECONDS - 7
    assert drained(queue) == ["b"]


def test_work_that_takes_long_is_seen(queue: WorkQueue[str], clock: Clock) -> None:
    assert queue.oldest() == 0.0
    queue.add("a")
    queue.take()
    clock.now += 30
    queue.add("b")
    queue.take()
    assert queue.oldest() == 30.0


def test_a_key_that_comes_again_waits_for_its_worker_while_others_are_worked_on() -> None:
    queue: WorkQueue[int] = WorkQueue()
    at_once, most, times = Counter[int](), Counter[int](), Counter[int]()
    begun, finished = {key: threading.Event() for key in range(6)}, threading.Semaphore(0)

    def work(key: int) -> None:
        at_once[key] += 1
        most[key] = max(most[key], at_once[key])
        times[key] += 1
        begun[key].set()
        if key % 2 == 0 and times[key] == 1:
            queue.add(key)
            queue.add(key + 1)
            begun[key + 1].wait(30)
        at_once[key] -= 1
        finished.release()

    for key in (0, 2, 4):
        queue.add(key)
    workers = Workers(queue, work, 8, "test")
    workers.start()
    assert all(finished.acquire(timeout=30) for _ in range(9))
    workers.stop(seconds=5)
    assert times == {0: 2, 1: 1, 2: 2, 3: 1, 4: 2, 5: 1}
    assert set(most.values()) == {1}
    assert not workers.alive


def test_workers_sleep_until_the_next_key_is_due() -> None:
    queue: WorkQueue[str] = WorkQueue()
    done = threading.Event()
    workers = Workers(queue, lambda key: done.set(), 4, "sleepers")
    workers.start()
    queue.add_after("a", 0.01)
    assert done.wait(5)
    workers.stop(seconds=5)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sleepers-")]
