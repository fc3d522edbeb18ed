"""Programs that run in the background: started, awaited, and stopped by id."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

GRACE_SECONDS = 10.0
"""Between the request to end and the order to."""
_POLL_SECONDS = 0.1
_LAST_BYTES = 4_000
"""How much of a log an error shows."""
_COLLECTING: Final = {"GOGC": "400"}
"""Go's programs look for garbage less often: a test machine has memory to spare sooner than cores."""

Command = Sequence[str | Path]


def flags(options: Mapping[str, object]) -> list[str]:
    """The options as a command's arguments, --name=value."""
    return [f"--{name}={value}" for name, value in options.items()]


@dataclass(frozen=True)
class Running:
    """A program that has been started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def require(self) -> None:
        """Raises with the end of its log if it has ended."""
        if (code := self.process.poll()) is not None:
            end = self.log.read_bytes()[-_LAST_BYTES:].decode(errors="replace")
            raise RuntimeError(f"{self.name} has ended with code {code}; its log, {self.log}, ends with:\n{end}")

    def stop(self) -> None:
        """Ends it: with SIGTERM, and with SIGKILL after a while."""
        self.process.terminate()
        try:
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def running(name: str, command: Command, folder: Path) -> Iterator[Running]:
    """Runs `command` until the context ends; what it says goes to `<folder>/logs/<name>.log`."""
    log = folder / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        # A session of its own: an interrupt from the keyboard reaches us alone, and we stop things in order.
        process = subprocess.Popen(
            command,
            env=_COLLECTING | os.environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    program = Running(name, process, log)
    try:
        yield program
    finally:
        program.stop()


def wait_until(ready: Callable[[], bool], what: str, programs: Sequence[Running] = (), *, seconds: float = 60) -> None:
    """Returns once `ready` says so; raises if one of `programs` ends before, or after `seconds`."""
    end = time.monotonic() + seconds
    while not ready():
        for program in programs:
            program.require()
        if time.monotonic() > end:
            logs = ", ".join(str(program.log) for program in programs)
            raise TimeoutError(f"{what}: not within {seconds:.0f} s" + (f"; see {logs}" if logs else ""))
        time.sleep(_POLL_SECONDS)


def accepts(address: str, port: int) -> bool:
    """Whether something listens there."""
    try:
        with socket.create_connection((address, port), timeout=5):
            return True
    except OSError:
        return False
