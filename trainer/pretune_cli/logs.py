"""`pretune logs`: what the processes of an attempt have said, from the job's storage, and on while they say it.

They write there every 5 s. Their pods would tell no more: Ray keeps what a driver and its workers print in files.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from typing import Final

from pretune_api.names import ExitCode
from pretune_api.status import Status
from pretune_cli.report.place import Place, locate
from pretune_trainer.errors import UserError
from pretune_trainer.storage.logs import DRIVER, LogReader, attempts_of, log_folder, of_rank, processes_of

_SECONDS: Final = 2.0
"""Between two looks at a log that is followed."""


def logs(arguments: argparse.Namespace) -> int:
    """Print the log of one process of an attempt, and follow it if that is asked for; the exit status.

    Raises:
        PretuneError: there is no such log, or the storage cannot be read.
    """
    place = locate(arguments.job, arguments.namespace)
    attempt = arguments.attempt or _newest(place, arguments.follow)
    process = DRIVER if arguments.rank is None else of_rank(arguments.rank)
    reader = LogReader(log_folder(place.folder, attempt, process))
    try:
        said = _print(reader)
        if not said and not arguments.follow:
            raise _missing(place, attempt, process)
        if arguments.follow:
            _follow(reader, arguments, attempt)
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` has. What Python still writes at its end must go somewhere:
        # https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.OK


def _newest(place: Place, follow: bool) -> int:
    """The attempt that was begun last; it may have said nothing yet."""
    if place.status is not None and place.status.attempt_count:
        return place.status.attempt_count
    known = attempts_of(place.folder)
    if not known and not follow:
        raise UserError(place.folder.uri, "no attempt has left a log there yet; --follow waits for the first")
    return max(known, default=1)


def _print(reader: LogReader) -> bool:
    """Print what is new; whether anything was."""
    said = False
    for block in reader.news():
        sys.stdout.buffer.write(block)
        said = True
    sys.stdout.flush()
    return said


def _follow(reader: LogReader, arguments: argparse.Namespace, attempt: int) -> None:
    """Print what comes, until the attempt has ended; in a storage without a cluster nobody says when that is."""
    for _ in _until_over(arguments, attempt):
        _print(reader)


def _until_over(arguments: argparse.Namespace, attempt: int) -> Iterator[None]:
    over = False
    while not over:
        time.sleep(_SECONDS)
        over = _is_over(locate(arguments.job, arguments.namespace).status, attempt)
        yield


def _is_over(status: Status | None, attempt: int) -> bool:
    ended = [record.number for record in status.attempts if record.completion_time is not None] if status else []
    return attempt in ended


def _missing(place: Place, attempt: int, process: str) -> UserError:
    where = log_folder(place.folder, attempt, process).uri
    if processes := processes_of(place.folder, attempt):
        return UserError(where, f"there is no such log; there are {', '.join(processes)}")
    known = attempts_of(place.folder)
    others = f"; there are logs of attempts {', '.join(map(str, known))}" if known else ""
    return UserError(where, f"attempt {attempt} has left no log{others}")
