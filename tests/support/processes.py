"""Processes that are nobody's children: they are ended, and waited for, by their number."""

import os
import select
import signal


def end_process(pid: int, how: signal.Signals = signal.SIGTERM, seconds: float = 60.0) -> None:
    """Send a signal to a process and wait until it has ended."""
    descriptor = os.pidfd_open(pid)
    try:
        os.kill(pid, how)
        ended, _, _ = select.select([descriptor], [], [], seconds)
        assert ended, f"process {pid} did not end"
    finally:
        os.close(descriptor)
