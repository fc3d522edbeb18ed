"""A queue of work: every key at most once, one worker a key, urgent ones first, again later, and after failures."""

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_RETRY_SECONDS: Final = 0.05
"""Pause after the first failure in a row; it doubles with each."""
LAST_RETRY_SECONDS: Final = 60.0
_FEW_ENTRIES: Final = 1_000
"""Entries of keys to work on later that are not worth tidying up."""


class WorkQueue(Generic[K]):
    """Keys to work on. A key that is added while it is worked on is worked on once more afterwards."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, urgent: Callable[[K], bool] = lambda _: False
    ) -> None:
        """`clock` tells seconds. An `urgent` key goes before those that are not, unless it failed."""
        self._clock = clock
        self._is_urgent = urgent
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        self._calmed = threading.Condition(lock)
        self._urgent: deque[K] = deque()
        self._urgent_now: set[K] = set()
        self._waiting: deque[K] = deque()
        self._dirty: set[K] = set()
        self._started: dict[K, float] = {}
        self._later: dict[K, float] = {}
        self._by_time: list[tuple[float, int, K]] = []
        self._entries = 0
        self._failures: dict[K, int] = {}
        self._closed = False

    def __len__(self) -> int:
        """Keys that wait for a worker."""
        return len(self._urgent) + len(self._waiting)

    @property
    def has_urgent(self) -> bool:
        """Whether urgent keys wait for a worker."""
        return bool(self._urgent)

    def wait_for_calm(self, seconds: float) -> None:
        """Returns once no urgent key waits or is worked on, or the queue is closed; after `seconds` in any case."""
        with self._calmed:
            self._calmed.wait_for(self._is_calm, seconds)

    def add(self, key: K) -> None:
        """Work on `key` as soon as possible."""
        with self._changed:
            self._add(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Work on `key` after a while. It replaces what was said before; it does not put off what was added at once."""
        with self._changed:
            self._later[key] = due = self._clock() + seconds
            # Keys need not be comparable: of two that are due at the same moment the first entry goes first.
            self._entries += 1
            heapq.heappush(self._by_time, (due, self._entries, key))
            self._tidy_up()
            self._changed.notify()

    def cancel(self, key: K) -> None:
        """Forget that `key` was to be worked on later."""
        with self._changed:
            self._later.pop(key, None)

    def retry(self, key: K, least: float = 0.0) -> int:
        """Work on `key` again after a pause that doubles with each failure in a row; their number so far.

        The pause lasts `least` seconds in any case, but no longer than a minute.
        """
        with self._changed:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause = max(FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 20), least)
        self.add_after(key, min(pause, LAST_RETRY_SECONDS))
        return failures

    def succeeded(self, key: K) -> None:
        """The next failure of `key` is the first one again."""
        with self._changed:
            self._failures.pop(key, None)

    def take(self) -> K | None:
        """The next key, once there is one; None once the queue is closed. `done` must follow."""
        with self._changed:
            while not self._closed:
                pause = self._wake_due()
                if self._urgent or self._waiting:
                    return self._next()
                self._changed.wait(pause)
            return None

    def done(self, key: K) -> None:
        """The work on `key` has ended."""
        with self._changed:
            del self._started[key]
            self._urgent_now.discard(key)
            if key in self._dirty:
                self._line_up(key)
            if self._is_calm():
                self._calmed.notify_all()

    def close(self) -> None:
        """Let the workers end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._calmed.notify_all()

    def oldest(self) -> float:
        """Seconds since the work that has taken longest was started; 0 when none is going on."""
        with self._changed:
            return max((self._clock() - started for started in self._started.values()), default=0.0)

    def _is_calm(self) -> bool:
        return self._closed or not (self._urgent or self._urgent_now)

    def _next(self) -> K:
        if self._urgent:
            key = self._urgent.popleft()
            self._urgent_now.add(key)
        else:
            key = self._waiting.popleft()
        self._dirty.discard(key)
        self._started[key] = self._clock()
        return key

    def _add(self, key: K) -> None:
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._started:
            self._line_up(key)

    def _line_up(self, key: K) -> None:
        urgent = key not in self._failures and self._is_urgent(key)
        (self._urgent if urgent else self._waiting).append(key)
        self._changed.notify()

    def _tidy_up(self) -> None:
        """Drop entries that were replaced, once they are most of all: they may be due in weeks, as a deadline is."""
        if len(self._by_time) > _FEW_ENTRIES + 2 * len(self._later):
            self._by_time = [entry for entry in self._by_time if self._later.get(entry[2]) == entry[0]]
            heapq.heapify(self._by_time)

    def _wake_due(self) -> float | None:
        """Adds what is due; returns the seconds until the next is."""
        now = self._clock()
        while self._by_time:
            due, _, key = self._by_time[0]
            current = self._later.get(key) == due
            if current and due > now:
                return due - now
            heapq.heappop(self._by_time)
            if current:
                del self._later[key]
                self._add(key)
        return None


class Workers:
    """Threads that work on a queue until they are stopped."""

    def __init__(self, queue: WorkQueue[K], work: Callable[[K], None], threads: int, name: str) -> None:
        """`work` raises nothing."""

        def run() -> None:
            while (key := queue.take()) is not None:
                try:
                    work(key)
                finally:
                    queue.done(key)

        self._close = queue.close
        self._threads = [threading.Thread(target=run, name=f"{name}-{n}", daemon=True) for n in range(threads)]

    def start(self) -> None:
        """Start working."""
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float) -> None:
        """End after the work at hand; waits for it at most `seconds` altogether."""
        self._close()
        end = time.monotonic() + seconds
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, end - time.monotonic()))

    @property
    def alive(self) -> bool:
        """Whether all threads are there."""
        return all(thread.is_alive() for thread in self._threads)
