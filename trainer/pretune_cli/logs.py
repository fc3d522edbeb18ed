"""`pretune logs`: what the processes of an attempt have said, from the job's storage, and on while they say it.

They write there every 5 s. Their pods would tell no more: Ray keeps what a driver and its workers print in files.
"""

import argparse
import sys
import time
from typing import Final

from pretune_api.names import ExitCode
from pretune_cli.job_folder import JobFolder, Look, job_folders
from pretune_trainer.errors import UserError
from pretune_trainer.storage.logs import DRIVER, LogReader, attempts_of, has_ended, log_folder, of_rank, processes_of

_SECONDS: Final = 2.0
"""Between two looks at a log that is followed."""


def logs(arguments: argparse.Namespace) -> int:
    """Print the log of one process of an attempt, and follow it if that is asked for; the exit status.

    Raises:
        PretuneError: there is no such log, or the storage cannot be read.
    """
    for title, look in job_folders(arguments.job, arguments.namespace, arguments.overrides):
        if title:
            print(f"{title}:", flush=True)
        _show(look, arguments)
    return ExitCode.OK


def _show(look: Look, arguments: argparse.Namespace) -> None:
    job = look()
    attempt = arguments.attempt or _newest(job, arguments.follow)
    process = DRIVER if arguments.rank is None else of_rank(arguments.rank)
    reader = LogReader(log_folder(job.store, attempt, process))
    said = _print(reader)
    if not said and not arguments.follow:
        raise _missing(job, attempt, process)
    if arguments.follow:
        while not _is_over(look(), attempt):
            time.sleep(_SECONDS)
            _print(reader)
        _print(reader)  # what was said between the last look and the end


def _newest(job: JobFolder, follow: bool) -> int:
    """The attempt that was begun last; it may have said nothing yet."""
    if job.status is not None and job.status.attempt_count:
        return job.status.attempt_count
    known = attempts_of(job.store)
    if not known and not follow:
        job.check_begun()
        raise UserError(job.store.uri, "there are no logs yet; --follow waits for the first")
    return max(known, default=1)


def _print(reader: LogReader) -> bool:
    """Print what is new; whether anything was."""
    said = False
    for block in reader.news():
        sys.stdout.buffer.write(block)
        said = True
    sys.stdout.flush()
    return said


def _is_over(job: JobFolder, attempt: int) -> bool:
    if job.status is None:
        return has_ended(job.store, attempt)
    return any(record.number == attempt and record.completion_time is not None for record in job.status.attempts)


def _missing(job: JobFolder, attempt: int, process: str) -> UserError:
    where = log_folder(job.store, attempt, process).uri
    if processes := processes_of(job.store, attempt):
        return UserError(where, f"there is no such log; available: {', '.join(processes)}")
    known = attempts_of(job.store)
    if not known:
        job.check_begun()
    others = f"; there are logs of attempts {', '.join(map(str, known))}" if known else ""
    return UserError(where, f"attempt {attempt} has no log{others}")
