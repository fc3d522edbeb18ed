"""The board: where ranks fetch orders and leave word, and where the operator and Prometheus read how far they are."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from pretune_api.names import ExitCode
from pretune_trainer.drive.progress import Progress
from pretune_trainer.drive.prometheus import TrainMetrics
from pretune_trainer.drive.wire import Ending, Order
from pretune_trainer.report import Committed, Event

Listener = Callable[[Event], None]


class Board:
    """Orders, stop flag and progress. Every method may be called from any thread.

    Ranks say which `group` of them they are. Only the one that came last is at work: another may still run on a machine
    that was cut off, and must not speak for those that have replaced it.
    """

    def __init__(self, listener: Listener = lambda event: None) -> None:
        """`listener` hears every event, in the thread that brings it."""
        self._changed = threading.Condition(threading.RLock())
        self._listener = listener
        self._groups: list[str] = []
        self._waiting: deque[Order] = deque()
        self._endings: dict[int, Ending] = {}
        self._orders = 0
        self.commits = 0
        """Checkpoints that were committed, of all orders."""
        self._closed = False
        self._stop = False
        self._progress: Progress | None = None
        self._metrics = TrainMetrics()

    def put(self, job: Mapping[str, str | int], stage: str, config: dict[str, Any]) -> int:
        """Add an order behind those that wait; returns its number."""
        with self._changed:
            self._orders += 1
            self._waiting.append(Order(self._orders, job, stage, config))
            self._end_waiting_if_stopped()
            self._changed.notify_all()
            return self._orders

    def close(self) -> None:
        """There will be no more orders."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Ask the ranks to commit and leave; no further order is handed out."""
        with self._changed:
            self._stop = self._closed = True
            if self._progress is not None:
                self._progress.stopping = True
            self._end_waiting_if_stopped()
            self._changed.notify_all()

    def next_order(self, wait: float, group: str = "") -> Order | None:
        """The order to obey: the one at work, if its ranks were lost and are back, or the next; None if there are no
        more for this group.

        Raises:
            TimeoutError: there was none within `wait` seconds, and more may come.
        """
        with self._changed:
            self._arrive(group)
            if not self._changed.wait_for(lambda: self._has_word_for(group), wait):
                raise TimeoutError
            if self._is_replaced(group):
                return None
            if self._at_work is None and self._waiting:
                self._progress = Progress(self._waiting.popleft())
            return self._at_work

    def end(self, number: int, ending: Ending, group: str = "") -> None:
        """Keep how an order ended, begun or not. The first word stands: others say the same failure once more."""
        with self._changed:
            if self._is_replaced(group):
                return
            if self._at_work is None and self._waiting and self._waiting[0].number == number:
                self._progress = Progress(self._waiting.popleft())
            if self._progress is None or self._progress.order.number != number or self._progress.ending is not None:
                return
            self._progress.ending = self._endings[number] = self._progress.completed(ending)
            self._observe_progress()
            self._changed.notify_all()

    def ending(self, number: int, wait: float) -> Ending | None:
        """How an order ended; None if it has not within `wait` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: number in self._endings, wait)
            return self._endings.get(number)

    def at_rest(self, wait: float) -> bool:
        """Whether no order waits or is at work, now or within `wait` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._waiting or self._at_work), wait)

    def take(self, number: int, events: list[Event], group: str = "") -> bool:
        """Take in what rank 0 tells of an order; returns whether the ranks shall stop."""
        with self._changed:
            if self._is_replaced(group):
                return True
            progress = self._progress
            if progress is not None and progress.order.number == number:
                self.commits += sum(isinstance(event, Committed) for event in events)
                for event in events:
                    progress.take(event)
                    self._metrics.observe(progress.order.labels, event)
            stop = self._stop
        for event in events:
            self._listener(event)
        return stop

    def progress(self) -> dict[str, Any]:
        """The document at /progress."""
        with self._changed:
            return self._progress.to_json() if self._progress else {"state": "Waiting"}

    def metrics(self) -> bytes:
        """The text at /metrics."""
        with self._changed:
            self._observe_progress()
            return self._metrics.to_text()

    def _arrive(self, group: str) -> None:
        if group not in self._groups:
            self._groups.append(group)
            self._changed.notify_all()

    def _is_replaced(self, group: str) -> bool:
        return group in self._groups[:-1]

    def _has_word_for(self, group: str) -> bool:
        return bool(self._at_work or self._waiting or self._closed or self._is_replaced(group))

    def _observe_progress(self) -> None:
        if self._progress is not None:
            self._metrics.observe_progress(self._progress)

    def _end_waiting_if_stopped(self) -> None:
        while self._stop and self._waiting:
            order = self._waiting.popleft()
            self._endings[order.number] = Ending(ExitCode.STOPPED, "stopped before the ranks had started")
            if self._at_work is None:
                self._progress = Progress(order, ending=self._endings[order.number])

    @property
    def _at_work(self) -> Order | None:
        return self._progress.order if self._progress and self._progress.ending is None else None
