"""A cluster on which Pretune is installed as its administrators install it, and namespaces as its users have them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e import corpora, release
from e2e.cluster import machine
from e2e.cluster.addons import install_kueue
from e2e.cluster.cluster import Cluster
from e2e.cluster.prometheus import Prometheus, scrapes_of
from e2e.cluster.s3 import S3Server, s3_server
from e2e.images import ensure
from e2e.monitoring import MONITORING, monitored
from e2e.tracker import Tracker, running_tracker
from e2e.world import Document, Namespace, namespace, secret, service
from support.measured import measured, pytest_terminal_summary

__all__ = ["measured", "pytest_terminal_summary"]

SYSTEM = "pretune-system"
S3_PORT = 7070
"""Port of the service that examples/chain.yaml names: http://s3.storage.svc:7070."""
SMALL = {"cpu": "200m", "memory": "3Gi", "ephemeralStorage": "1Gi"}
"""What a pod asks for on a machine of two cores, on which three of them run beside Kubernetes."""


@dataclass(frozen=True)
class Installation:
    """Pretune on a cluster, with an object store and Prometheus beside it."""

    cluster: Cluster
    values: Document
    """The chart's values."""
    release: release.Release
    s3: S3Server
    prometheus: Prometheus

    @property
    def buckets(self) -> Path:
        """Where the objects of the store lie as files."""
        return self.s3.folder / "buckets"

    def folder_of(self, team: Namespace, reference: str) -> Path:
        """A job's folder in storage."""
        kind, _, name = reference.partition("/")
        uid = team.job(reference)["metadata"]["uid"]
        return self.buckets / "models/team-a" / team.name / f"{kind}-{name}-{uid[:8]}"

    def last_commit(self, team: Namespace, reference: str) -> int:
        """The step of a job's newest checkpoint in storage."""
        markers = self.folder_of(team, reference).glob("checkpoints/*/*/COMMITTED")
        return max(int(marker.parent.name.removeprefix("step-")) for marker in markers)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The machine's test cluster; ended at the end if it was started here."""
    was_up = machine.cluster().runs()
    yield machine.up()
    if not was_up:
        machine.down()


@pytest.fixture(scope="session")
def s3(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An object store with corpora in it, under the name that the example knows it by."""
    server = s3_server(tmp_path_factory.mktemp("s3"), cluster.host)
    server.make_bucket("models")
    corpora.write(server.folder / "buckets" / "corpora")
    with namespace(cluster, "storage") as storage, server.running():
        storage.apply(*service("s3", S3_PORT, server.endpoint))
        yield server


@pytest.fixture(scope="session")
def tracker(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracker]:
    """An MLflow server that pods reach by a name."""
    with running_tracker(cluster, tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(scope="session")
def installation(cluster: Cluster, s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Pretune, installed by helm from images made of this checkout."""
    values = _values(ensure(["operator", "pretrain", "finetune"], cluster))
    installed = release.Release(SYSTEM, cluster.kubeconfig)
    [monitor] = (found for found in release.rendered(values, SYSTEM) if found["kind"] == "PodMonitor")
    with (
        namespace(cluster, SYSTEM),
        monitored(cluster, tmp_path_factory.mktemp("monitoring"), scrapes_of(monitor)) as scraper,
    ):
        installed.install(_without_monitors(values))
        yield Installation(cluster, _without_monitors(values), installed, s3, scraper)
        installed.uninstall()


@pytest.fixture(scope="session")
def kueue(cluster: Cluster) -> Cluster:
    """The cluster, with Kueue on it."""
    install_kueue(cluster)
    return cluster


@pytest.fixture(scope="module")
def team(request: pytest.FixtureRequest, installation: Installation) -> Iterator[Namespace]:
    """A namespace of people who train, with the credentials of their store."""
    with namespace(installation.cluster, f"team-{_module(request)}") as made:
        made.apply(secret("s3", installation.s3.environment))
        yield made


@pytest.fixture(scope="module")
def store(request: pytest.FixtureRequest, installation: Installation) -> S3Server:
    """Another team's store, with the corpora in it; it does not run yet."""
    server = s3_server(installation.s3.folder / _module(request), installation.s3.address)
    server.make_bucket("models")
    corpora.write(server.folder / "buckets" / "corpora")
    return server


@pytest.fixture(scope="module")
def other_team(request: pytest.FixtureRequest, installation: Installation, store: S3Server) -> Iterator[Namespace]:
    """The namespace of the other team, whose credentials are those of its own store."""
    with namespace(installation.cluster, f"team-other-{_module(request)}") as made:
        made.apply(secret("s3", store.environment))
        yield made


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, installation: Installation) -> dict[str, float]:
    """Metrics of the job that goes through what clusters do, run on this machine with as many ranks."""
    folder = tmp_path_factory.mktemp("undisturbed")
    storage = corpora.run_on_this_machine([corpora.survivor()], installation.buckets / "corpora", folder)
    return corpora.metrics_of(storage, "pretrainjob-survivor")


@pytest.fixture(scope="module")
def crowded(installation: Installation) -> Iterator[Namespace]:
    """A namespace whose quota allows no pod."""
    with namespace(installation.cluster, "team-crowded") as made:
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "none"},
            "spec": {"hard": {"pods": "0"}},
        }
        made.apply(quota, secret("s3", installation.s3.environment))
        yield made


def _module(request: pytest.FixtureRequest) -> str:
    """What the test's module is about."""
    name: str = request.module.__name__
    return name.rpartition(".")[2].removeprefix("test_")


def _values(images: dict[str, str]) -> Document:
    repository, _, tag = images["operator"].rpartition(":")
    return {
        "image": {"repository": repository, "tag": tag},
        "settings": {
            "images": {"pretrain": images["pretrain"], "finetune": images["finetune"]},
            "pools": {
                "default": {"resources": SMALL},
                "gpu": {"nodeSelector": {"pool.pretune.test/a": "true"}, "resources": SMALL},
            },
            "head": {"resources": SMALL},
            # It costs every job the seconds of a pod more: test_preflight.py asks for it in its jobs.
            "preflight": {"enabled": False},
            "drainSeconds": 60,
            "kuberayNamespace": "default",
            "monitoringNamespace": MONITORING,
        },
        "metrics": {"podMonitor": {"enabled": True}},
    }


def _without_monitors(values: Document) -> Document:
    """The values for a cluster that has no Prometheus operator."""
    return {**values, "metrics": {"podMonitor": {"enabled": False}}}
