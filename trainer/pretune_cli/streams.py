"""The standard streams, where they are closed or nobody reads them any more."""

import os
import sys
from typing import IO, Final

_LAST: Final = 2
"""Number of standard error, the last of the three."""


def hold() -> None:
    """Put nothing in the place of standard streams that are closed, before a file or a socket takes it."""
    while (taken := os.open(os.devnull, os.O_RDWR)) <= _LAST:
        pass
    os.close(taken)
    sys.stdin, sys.stdout, sys.stderr = (
        stream or os.fdopen(number, mode)
        for number, (stream, mode) in enumerate(((sys.stdin, "r"), (sys.stdout, "w"), (sys.stderr, "w")))
    )


def let_go(stream: IO[str]) -> None:
    """Whatever is written to `stream` from now on goes nowhere, without an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
