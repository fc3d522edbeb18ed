"""MLflow's own server on this machine, and what jobs of the cluster say to be told of there."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster.cluster import Cluster
from e2e.world import Document, Namespace, namespace, secret, service
from support import mlflow_server
from support.ports import free_port

_PORT = 5000
_SECRET = "mlflow"


@dataclass(frozen=True)
class Tracker:
    """A server that takes a token and knows the namespaces of teams as experiments."""

    address: str
    """As this machine knows it."""
    away: str
    """An address at which nobody listens."""
    token: str

    @property
    def credentials(self) -> Document:
        """The Secret that `followed` jobs name."""
        return secret(_SECRET, {"MLFLOW_TRACKING_TOKEN": self.token})

    def followed(self, job: Document) -> Document:
        """The job, told of here."""
        told = {"uri": f"http://mlflow.tracking.svc:{_PORT}", "secretRef": {"name": _SECRET}}
        job["spec"]["tracking"] = {"mlflow": told}
        return job

    def unfollowed(self, job: Document) -> Document:
        """The job, told of where nobody listens."""
        job["spec"]["tracking"] = {"mlflow": {"uri": self.away}}
        return job

    def runs(self, team: Namespace, name: str) -> list[Any]:
        """What the server knows of the jobs of that name."""
        return mlflow_server.runs(self.address, name, team.name)

    def losses(self, run: Any) -> dict[int, float]:
        """The losses of a run by step; of a step that was told twice, the later one."""
        return dict(mlflow_server.curve(self.address, run, "train/loss"))


@contextmanager
def running_tracker(cluster: Cluster, folder: Path) -> Iterator[Tracker]:
    """The server, and its name in the cluster: http://mlflow.tracking.svc:5000."""
    token, host = secrets.token_hex(16), cluster.host
    with (
        namespace(cluster, "tracking") as tracking,
        mlflow_server.mlflow_server(folder, host, token) as address,
    ):
        tracking.apply(*service("mlflow", _PORT, address))
        yield Tracker(address, f"http://{host}:{free_port(host)}", token)
