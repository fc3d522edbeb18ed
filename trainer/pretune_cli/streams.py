"""The standard streams, where they are closed or nobody reads them any more."""

import io
import os
import sys
from typing import IO, Final

_LAST: Final = 2
"""Number of standard error, the last of the three."""


def fill_closed() -> None:
    """Open /dev/null in place of standard streams that are closed, before a file or a socket takes their numbers."""
    while (taken := os.open(os.devnull, os.O_RDWR)) <= _LAST:
        pass
    os.close(taken)
    sys.stdin, sys.stdout, sys.stderr = (
        stream or os.fdopen(number, mode)
        for number, (stream, mode) in enumerate(((sys.stdin, "r"), (sys.stdout, "w"), (sys.stderr, "w")))
    )


def escape_what_has_no_code() -> None:
    """Standard output takes every character, as standard error does: an escape stands for what its encoding lacks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def discard(stream: IO[str]) -> None:
    """Whatever is written to `stream` from now on goes nowhere, without an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def is_lost(stream: IO[str]) -> bool:
    """Whether nothing that is written to `stream` arrives: its reader is gone, or its disk is full.

    An error says neither which stream nor which file it is of, so a line is tried.
    """
    try:
        print(file=stream, flush=True)
    except OSError:
        return True
    return False


def tell(sentence: str) -> None:
    """Print a sentence to standard error, for people; where that cannot be written, nobody is told."""
    try:
        print(sentence, file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)
