"""A real API server, for tests that are `make e2e`'s, not `make test`'s."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from e2e.cluster.control_plane import ControlPlane
    from support.kube_api import KubeApi

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[ControlPlane]":
    """An API server that knows our kinds and KubeRay's."""
    from support.real_api_server import plane_with_kinds

    with plane_with_kinds(tmp_path_factory.mktemp("plane")) as plane:
        yield plane


@pytest.fixture(scope="session")
def api(plane: "ControlPlane") -> "KubeApi":
    """The API as its administrator may use it."""
    from support.kube_api import KubeApi

    return KubeApi(plane.kubeconfig)


@pytest.fixture
def namespace(api: "KubeApi") -> str:
    """An empty namespace."""
    made = api.create("/api/v1/namespaces", {"metadata": {"generateName": "test-"}})
    name: str = made["metadata"]["name"]
    return name
