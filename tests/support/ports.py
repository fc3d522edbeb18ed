"""Ports for servers that a test starts."""

import random
import socket
from contextlib import suppress

LOCALHOST = "127.0.0.1"
_PORTS = range(20_000, 30_000)
"""Above those of Ray's workers, and below the NodePorts of Kubernetes and the ports that Linux lends to connections and
to whoever asks for any: one of these may take a port between our look and the start of the server."""
_drawn = iter(random.SystemRandom().sample(_PORTS, len(_PORTS)))
"""Each port once in a process, and not seeded: tests that run at once draw different ones."""


def free_port(address: str = LOCALHOST) -> int:
    """A port of this machine's `address` on which nothing listens."""
    for port in _drawn:
        with suppress(OSError), socket.create_server((address, port)):
            return port
    raise OSError(f"no port of {address} can be listened on")
