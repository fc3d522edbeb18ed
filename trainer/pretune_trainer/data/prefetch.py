"""Running ahead: an iterator's next items are made in the background while the last one is used."""

import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Runs `items` in a thread, at most `ahead` items before the consumer.

    What the iterator raises is raised here, with its traceback, after the items before it.
    """

    def __init__(self, items: Iterator[T], ahead: int) -> None:
        self._items = items
        self._ahead = ahead
        self._ready: deque[T] = deque()
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._ended = self._closed = False
        self._waited = 0.0
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        started = time.perf_counter()
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended or self._closed)
            self._waited += time.perf_counter() - started
            if self._ready:
                self._changed.notify_all()
                return self._ready.popleft()
        if self._error is not None:
            raise self._error
        raise StopIteration

    def take_waited(self) -> float:
        """Seconds that the consumer has waited since this was last asked."""
        with self._changed:
            waited, self._waited = self._waited, 0.0
        return waited

    def close(self, patience: float = 5.0) -> None:
        """Stop running ahead.

        An item that is being made is waited for, but no longer than `patience` seconds: it may be waiting for ranks
        that have left already.
        """
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        self._thread.join(patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._offer(item):
                    break
        except BaseException as error:  # raised again where the items are used
            self._error = error
        finally:
            if isinstance(self._items, Generator):
                self._items.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _offer(self, item: T) -> bool:
        """Hand an item over when there is room for it; False when nobody wants it any more."""
        with self._changed:
            self._ready.append(item)
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._ready) < self._ahead or self._closed)
            return not self._closed
