"""A real API server, and an operator that lives on it. These tests are `make e2e`'s, not `make test`'s."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from e2e.cluster.control_plane import ControlPlane
    from support.kube_api import KubeApi

HERE = Path(__file__).parent
CRDS = HERE.parents[2] / "crds"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[ControlPlane]":
    """An API server that knows our kinds and KubeRay's."""
    from e2e.cluster.binaries import programs
    from e2e.cluster.control_plane import control_plane

    with control_plane(tmp_path_factory.mktemp("plane")) as plane:
        definitions = [*sorted(CRDS.glob("*.yaml")), *(programs("kuberay") / "config/crd/bases").glob("*.yaml")]
        for path in definitions:
            plane.kubectl("create", "--filename", path)
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield plane


@pytest.fixture(scope="session")
def api(plane: "ControlPlane") -> "KubeApi":
    from support.kube_api import KubeApi

    return KubeApi(plane.kubeconfig)


@pytest.fixture
def namespace(api: "KubeApi", request: pytest.FixtureRequest) -> str:
    """An empty namespace."""
    made = api.create("/api/v1/namespaces", {"metadata": {"generateName": "test-"}})
    return made["metadata"]["name"]
