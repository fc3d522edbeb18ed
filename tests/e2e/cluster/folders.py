"""Where things lie that are made: outside the checkout, so that all checkouts of a machine share them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """What is made once: programs, images."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pretune" / "cluster"


def state_folder() -> Path:
    """What a running cluster writes, and takes along when it ends."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "pretune" / "cluster"


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Lets one process of this machine at a time do what `name` stands for."""
    locks = cache_folder() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
