"""python -m e2e.cluster up | down | build"""

import sys
import time
from collections.abc import Callable

from .binaries import build_all
from .machine import down, up


def _up() -> None:
    started = time.monotonic()
    cluster = up()
    print(f"The cluster is up, after {time.monotonic() - started:.0f} s: export KUBECONFIG={cluster.kubeconfig}")


_COMMANDS: dict[str, Callable[[], None]] = {"up": _up, "down": down, "build": build_all}

if __name__ == "__main__":
    if sys.argv[1:] not in [[command] for command in _COMMANDS]:
        sys.exit(f"python -m e2e.cluster takes one of: {', '.join(_COMMANDS)}")
    _COMMANDS[sys.argv[1]]()
