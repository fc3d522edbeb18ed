"""What a pod does before it is stopped: `python -m pretune_trainer.drive.drain`, the preStop hook of head and workers.

Asks the ranks to commit and leave, and holds up the pod's end until they have, or nobody is at work, or time is up.
Nothing here imports torch or Ray: a node that is about to go may be short of both time and CPU.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pretune_api.names import DESK_FILE_VARIABLE, DESK_PORT, ExitCode
from pretune_trainer.drive.desk import BoardLostError, Desk
from pretune_trainer.drive.tokens import desk_token

_POLL_SECONDS = 2.0
"""Longest time between question and answer: with the head's node the board may go without a word."""
_TRIES = 3
"""Times that a board which has answered once is asked again before it counts as gone."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Drain; the exit status, which the kubelet makes an event of if it is not 0."""
    parsed = _parser().parse_args(arguments)
    url = _url()
    if url is None:  # no rank has started in this pod
        return ExitCode.OK
    try:
        return _drain(Desk(url, desk_token()), time.monotonic() + parsed.seconds, parsed.linger)
    except BoardLostError:  # no driver yet, or none any more: nobody is at work
        return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pretune_trainer.drive.drain", description=main.__doc__)
    parser.add_argument("--seconds", type=float, required=True, help="longest time to wait for the ranks")
    parser.add_argument("--linger", type=float, default=0.0, help="seconds in which the last word can still be read")
    return parser


def _url() -> str | None:
    """Address of the desk: a head has it, and on a worker the ranks leave it, for a head that ends has no name."""
    file = os.environ.get(DESK_FILE_VARIABLE)
    if file is None:
        return f"http://127.0.0.1:{DESK_PORT}"
    try:
        return Path(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _drain(desk: Desk, deadline: float, linger: float) -> int:
    was_at_rest = desk.at_rest(0.0)
    desk.stop()
    if was_at_rest:
        return ExitCode.OK
    if not _came_to_rest(desk, deadline):
        print("the ranks have not come to rest in time; what follows their last checkpoint is lost", file=sys.stderr)
        return ExitCode.FAILED
    time.sleep(linger)
    return ExitCode.OK


def _came_to_rest(desk: Desk, deadline: float) -> bool:
    failures = 0
    while (left := deadline - time.monotonic()) > 0:
        try:
            if desk.at_rest(min(left, _POLL_SECONDS)):
                return True
            failures = 0
        except BoardLostError:
            failures += 1
            if failures == _TRIES:
                raise
            time.sleep(1.0)
    return False


if __name__ == "__main__":
    sys.exit(main())
