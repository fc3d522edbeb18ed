"""How rank 0 tells the world: to the board, into the storage, to TensorBoard, to a tracker; always from threads of its
own."""

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Protocol, Self

from pretune_api.run_config import RunConfig
from pretune_trainer.drive.desk import BoardLostError, Desk
from pretune_trainer.drive.tolerated import Tolerated
from pretune_trainer.drive.tracking import MLflowRun, curves
from pretune_trainer.drive.wire import Ending, event_to_json
from pretune_trainer.errors import StorageError
from pretune_trainer.report import Committed, Evaluated, Event, Said, Start, Step

TENSORBOARD_VARIABLE: Final = "PRETUNE_TENSORBOARD"
"""Folder for TensorBoard's events; without it there are none."""

_POLL_SECONDS: Final = 0.5
_FLUSH_SECONDS: Final = 30.0
_CHUNK_BYTES: Final = 1 << 20
_MOST_UNSENT: Final = 10_000

Put = Callable[[str, bytes], object]
"""Writes an object below the job's folder, or replaces it."""


class Sink(Protocol):
    """Takes batches of events in a background thread."""

    def write(self, events: list[Event]) -> None:
        """Take in events; an empty list says that time has passed."""

    def close(self, ending: Ending | None) -> None:
        """The run is over: keep what has been taken in. `ending` is None where other ranks were lost."""


class Background(AbstractContextManager["Background"]):
    """The reporter of rank 0: `tell` appends to a queue, and one thread a sink carries it on.

    Used as a context manager; leaving it, however the run has ended, waits until every sink has its last event.
    """

    def __init__(self, board: "BoardSink", *others: Sink) -> None:
        self._board = board
        self._pumps = [_Pump(sink, self.tell) for sink in (board, *others)]

    def ended(self, ending: Ending) -> Ending:
        """Pass on how the run has ended."""
        for pump in self._pumps:
            pump.ending = ending
        return ending

    def tell(self, event: Event) -> None:
        """Pass on an event. Never waits."""
        for pump in self._pumps:
            pump.take(event)

    def stop_requested(self) -> bool:
        """Whether the board's last answer was to stop."""
        return self._board.stop

    def __enter__(self) -> Self:
        for pump in self._pumps:
            pump.start()
        return self

    def __exit__(self, *_: object) -> None:
        for pump in self._pumps:
            pump.over.set()
            pump.wake.set()
        for pump in self._pumps:
            pump.join()


class _Pump(threading.Thread):
    """Carries events to one sink; a sink that fails is given up, once and in words, and training goes on."""

    def __init__(self, sink: Sink, tell: Callable[[Event], None]) -> None:
        super().__init__(daemon=True, name=type(sink).__name__)
        self.wake = threading.Event()
        self.over = threading.Event()
        self.ending: Ending | None = None
        self._sink = sink
        self._tell = tell
        self._queue: deque[Event] = deque()
        self._given_up = False

    def take(self, event: Event) -> None:
        """Keep an event for the sink, unless that is given up: nobody would ever fetch it."""
        if self._given_up:
            return
        self._queue.append(event)
        if isinstance(event, Start | Committed):
            self.wake.set()

    def run(self) -> None:
        try:
            while not self.over.is_set():
                self.wake.wait(_POLL_SECONDS)
                self.wake.clear()
                self._sink.write(self._taken())
            self._sink.write(self._taken())
            self._sink.close(self.ending)
        except Exception as error:  # whatever it is, it must not end the training
            self._given_up = True
            self._queue.clear()
            self._tell(Said(f"{type(self._sink).__name__} has failed, training continues without it: {error}"))

    def _taken(self) -> list[Event]:
        return [self._queue.popleft() for _ in range(len(self._queue))]


class BoardSink:
    """Posts events to the board and learns from its answers whether to stop. A lost board is tried again, quietly."""

    def __init__(self, desk: Desk, order: int) -> None:
        self.stop = False
        self._desk = desk
        self._order = order
        self._unsent: deque[Event] = deque(maxlen=_MOST_UNSENT)
        self._tolerated = Tolerated("progress cannot be reported, training continues", BoardLostError)

    def write(self, events: list[Event]) -> None:
        """Post what has not been posted yet; without news too, to hear of a stop."""
        self._unsent.extend(events)
        with self._tolerated:
            self.stop = self._desk.tell(self._order, list(self._unsent))
            self._unsent.clear()

    def close(self, ending: Ending | None) -> None:
        """Nothing is kept here; whoever gives the orders is told how each ended."""


class History:
    """The whole history of a run as JSON lines in the storage: history/<run>/<chunk>.jsonl, beside its run config.

    Object stores cannot append, and to write one growing file again and again would cost the square of its size: the
    last chunk is rewritten until it is 1 MiB long. Written at every commit, so that what a later run starts from has
    its history, else every 30 s, and at the end; what a store that fails could not take, it takes the next time.
    """

    def __init__(self, put: Put, run_config: bytes) -> None:
        """`put` writes below the job's folder; `run_config` is JSON, kept for whoever reads the history."""
        self._put = put
        self._run_config = run_config
        self._run = 0
        self._chunk = 1
        self._lines = bytearray()
        self._written = 0
        self._last_flush = time.monotonic()
        self._tolerated = Tolerated(
            "the history cannot be written, training continues and the write is retried", StorageError
        )

    def write(self, events: list[Event]) -> None:
        """Take in events; writes them when it is time."""
        for event in events:
            if isinstance(event, Start):
                self._run = event.run
            self._lines += json.dumps({"time": round(time.time(), 3), **event_to_json(event)}).encode() + b"\n"
        is_due = time.monotonic() - self._last_flush > _FLUSH_SECONDS
        if is_due or any(isinstance(event, Start | Committed) for event in events):
            self._flush()

    def close(self, ending: Ending | None) -> None:
        """Write the rest."""
        self._flush()

    def _flush(self) -> None:
        if self._run > 0 and len(self._lines) > self._written:
            with self._tolerated:
                self._put_lines()
        self._last_flush = time.monotonic()

    def _put_lines(self) -> None:
        folder = f"history/{self._run:04d}"
        if self._run_config:
            self._put(f"{folder}/{RunConfig.FILE_NAME}", self._run_config)
            self._run_config = b""
        self._put(f"{folder}/{self._chunk:05d}.jsonl", bytes(self._lines))
        self._written = len(self._lines)
        if self._written >= _CHUNK_BYTES:
            self._chunk, self._written = self._chunk + 1, 0
            self._lines.clear()


class TensorBoard:
    """Events for TensorBoard, in a folder of its own for each job and run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def write(self, events: list[Event]) -> None:
        """Take in events."""
        for event in events:
            match event:
                case Start():
                    self._open(event)
                case Step() | Evaluated():
                    for name, value in curves(event).items():
                        self._writer.add_scalar(name, value, event.step)

    def close(self, ending: Ending | None) -> None:
        """Write what TensorBoard still holds back."""
        if self._writer is not None:
            self._writer.close()

    def _open(self, event: Start) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._folder / f"{event.run:04d}"))


def open_sinks(config: RunConfig) -> list[Sink]:
    """What rank 0 tells beside the board: the history in the job's storage; TensorBoard and MLflow where asked for.

    Raises:
        StorageError: stores of that kind are not known.
    """
    from pretune_trainer.storage.store import Store

    store = Store.open(config.storage).child(config.job.folder)
    history = History(store.put, json.dumps(config.brief()).encode())
    sinks: list[Sink] = [history]
    if folder := os.environ.get(TENSORBOARD_VARIABLE):
        sinks.append(TensorBoard(Path(folder, config.job.folder)))
    if config.tracking is not None and config.tracking.mlflow is not None:
        sinks.append(MLflowRun(config, config.tracking.mlflow))
    return sinks
