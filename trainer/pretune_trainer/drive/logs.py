"""Keeps what a process says, while it says it: all of it in the job's storage, and the last lines for its ending."""

import logging
import os
import re
import stat
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self

from pretune_api.names import ExitCode
from pretune_api.run_config import RunConfig
from pretune_api.status import MOST_LOG_BYTES
from pretune_trainer.drive.tolerated import Tolerated
from pretune_trainer.drive.wire import Ending

if TYPE_CHECKING:
    from pretune_trainer.storage.logs import LogWriter

FORMAT: Final = "%(asctime)s %(name)s %(message)s"
"""A line of a logger."""

_POLL_SECONDS: Final = 1.0
_FLUSH_SECONDS: Final = 5.0
_LAST_SECONDS: Final = 30.0
"""How long the end of a process waits for the store to take the end of its log."""
_REQUEST_SECONDS: Final = 10.0
"""Time for one request to the store, so that within those seconds there is another where one stalls."""
_MOST_LINES: Final = 20
_LONGEST_LINE: Final = 64 << 10
"""Bytes of a line that has no end yet after which it is kept as it is."""
_BLOCK: Final = 1 << 20

_OF_RAY: Final = re.compile(rb"^:(?:job_id|actor_name|task_name):.*\n", re.MULTILINE)
"""What Ray writes into the files of its workers for itself (LOG_PREFIX_* of ray._private.ray_constants)."""
_UNPRINTABLE: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""Colours and movements of the cursor (ECMA-48), and other characters that are no text."""


class Source(Protocol):
    """Where what a process says is caught."""

    def open(self, take: Callable[[bytes], None]) -> None:
        """Pass on from here what is said, in any thread."""

    def poll(self) -> None:
        """Pass on what has been said until now."""

    def say(self, text: str) -> None:
        """Say it so that it is caught."""

    def shut(self) -> None:
        """Pass on what is left, and then no more."""


class Output:
    """Standard output and error where they are files, as Ray keeps them: whatever the process and its libraries print.

    The files are read as they grow. A pipe in their place could fill up, and hold up the one who prints.
    """

    def __init__(self, *descriptors: int) -> None:
        """`descriptors` are those of the files; one file may have several."""
        files = {os.fstat(descriptor).st_ino: descriptor for descriptor in descriptors}
        self._files = [_Growing(Path(f"/proc/self/fd/{descriptor}")) for descriptor in files.values()]
        self._take: Callable[[bytes], None] = lambda said: None

    def open(self, take: Callable[[bytes], None]) -> None:
        """Pass on what has not been passed on yet, and all that follows."""
        self._take = take

    def poll(self) -> None:
        """Read on."""
        for file in self._files:
            file.pass_on(self._take)

    def say(self, text: str) -> None:
        """Print it."""
        print(text, flush=True)

    def shut(self) -> None:
        """Read on to the end, though the last line may have none; what follows is for the next who opens."""
        for file in self._files:
            file.pass_on(self._take)
            file.pass_on_line(self._take)


class _Growing:
    """A file that grows, line by line; it is open for as long as the process lives."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._begun = b""

    def pass_on(self, take: Callable[[bytes], None]) -> None:
        """Take the lines that are new."""
        while block := self._file.read(_BLOCK):
            said = self._begun + block
            end = said.rfind(b"\n") + 1 or (len(said) if len(said) > _LONGEST_LINE else 0)
            self._begun = said[end:]
            take(_OF_RAY.sub(b"", said[:end]))

    def pass_on_line(self, take: Callable[[bytes], None]) -> None:
        """Take the line that has begun."""
        take(self._begun)
        self._begun = b""


class Loggers(logging.Handler):
    """What loggers say, and warnings where they hear of them: for a process whose output is for people to look at."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(FORMAT))
        self._take: Callable[[bytes], None] = lambda said: None

    def open(self, take: Callable[[bytes], None]) -> None:
        """Listen."""
        self._take = take
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Take in what a logger says; what cannot be written is no reason to end the one who says it."""
        try:
            self.say(self.format(record))
        except Exception:  # as every handler of logging does
            self.handleError(record)

    def poll(self) -> None:
        """All has been passed on already."""

    def say(self, text: str) -> None:
        """Pass it on, and show it to nobody."""
        self._take(f"{text}\n".encode(errors="replace"))

    def shut(self) -> None:
        """Listen no more."""
        logging.getLogger().removeHandler(self)


def own_source() -> Source:
    """The output of this process where it is kept in files, else its loggers."""
    if all(stat.S_ISREG(os.fstat(descriptor).st_mode) for descriptor in (1, 2)):
        return Output(1, 2)
    return Loggers()


class Log(AbstractContextManager["Log"]):
    """A process's log of one order, kept by a thread of its own. A store that fails or stalls disturbs nothing."""

    def __init__(self, writer: "LogWriter", source: Source, ends_attempt: bool = False) -> None:
        """`ends_attempt` says that with this process all others of its attempt have ended."""
        self._writer = writer
        self._source = source
        self._ends_attempt = ends_attempt
        self._end = b""
        self._taking, self._polling = threading.Lock(), threading.Lock()
        self._over = threading.Event()
        self._tolerated = Tolerated("the log cannot be written, training continues and the write is retried")
        self._thread = threading.Thread(target=self._keep, daemon=True, name="log")

    def say(self, text: str) -> None:
        """Add to the log, with the time."""
        self._source.say(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")

    def last_lines(self) -> str:
        """What was said last, as it fits into a status."""
        self._poll()
        with self._taking:
            return last_lines(self._end)

    def ended(self, ending: Ending) -> Ending:
        """Say how the order ended; a failure of which nobody has shown the last lines yet comes back with them."""
        if ending.traceback:
            self.say(ending.traceback.rstrip())
        self.say(f"{ending.state}: {ending.message}")
        if ending.log is not None or ending.exit_code in (ExitCode.OK, ExitCode.STOPPED):
            return ending
        return replace(ending, log=self.last_lines())

    def __enter__(self) -> Self:
        self._source.open(self._take)
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            self.say("".join(traceback.format_exception(error)).rstrip())
        with self._polling:
            self._source.shut()
        self._over.set()
        self._thread.join(_LAST_SECONDS)

    def _keep(self) -> None:
        due = 0.0
        while not self._over.wait(_POLL_SECONDS):
            self._poll()
            if time.monotonic() > due:
                with self._tolerated:
                    self._writer.flush()
                due = time.monotonic() + _FLUSH_SECONDS
        with self._tolerated:
            self._writer.flush()
            if self._ends_attempt:
                self._writer.end()

    def _poll(self) -> None:
        with self._polling:
            self._source.poll()

    def _take(self, said: bytes) -> None:
        with self._taking:
            self._end = (self._end + said)[-4 * MOST_LOG_BYTES :]
        self._writer.add(said)


OpenLog = Callable[[RunConfig, str], Log]
"""Opens the log of a process, by its name, of the attempt that a run config is for."""


def in_storage(source: Source) -> OpenLog:
    """Logs of what `source` catches, in the storage of each order's job; opening one raises StorageError if stores of
    that kind are not known."""
    from pretune_trainer.storage.client import Patience
    from pretune_trainer.storage.logs import DRIVER, LogWriter, log_folder
    from pretune_trainer.storage.store import Store

    def open_log(config: RunConfig, process: str) -> Log:
        usual = Patience.with_store_of(config.storage)
        # What fails is tried again with what comes next, but after the last lines nothing comes.
        patience = replace(
            usual, request_seconds=_REQUEST_SECONDS, total_seconds=min(usual.total_seconds, _LAST_SECONDS / 2)
        )
        job = Store.open(config.storage, patience).child(config.job.folder)
        return Log(LogWriter(log_folder(job, config.attempt, process)), source, ends_attempt=process == DRIVER)

    return open_log


def last_lines(said: bytes) -> str:
    """The last lines of a log, at most 20 and 2 KiB of UTF-8; of a line that was written over, its last state."""
    lines = [line.rstrip().rpartition("\r")[2] for line in said.decode(errors="replace").split("\n")]
    lines = [line for line in (_UNPRINTABLE.sub("", line) for line in lines) if line]
    return "\n".join(lines[-_MOST_LINES:]).encode()[-MOST_LOG_BYTES:].decode(errors="ignore")
