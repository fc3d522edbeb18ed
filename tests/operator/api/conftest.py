"""A real API server, and an operator that lives on it. These tests are `make e2e`'s, not `make test`'s."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from e2e.cluster.control_plane import ControlPlane
    from support.kube_api import KubeApi

HERE = Path(__file__).parent
KINDS = ("pretune.dev/v1alpha1/pretrainjobs", "pretune.dev/v1alpha1/finetunejobs", "ray.io/v1/rayjobs")
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
    from e2e.cluster.process import wait_until
    from support.kube_api import KubeApi

    with control_plane(tmp_path_factory.mktemp("plane")) as plane:
        definitions = [*sorted(CRDS.glob("*.yaml")), *(programs("kuberay") / "config/crd/bases").glob("*.yaml")]
        for path in definitions:
            plane.kubectl("create", "--filename", path)
        api = KubeApi(plane.kubeconfig)
        wait_until(lambda: all(served(api, path) for path in KINDS), "all kinds are served")
        yield plane


def served(api: "KubeApi", path: str) -> bool:
    """Whether the API server lists a kind."""
    from support.kube_api import RefusedError

    try:
        return bool(api.get(f"/apis/{path}?limit=1"))
    except RefusedError:
        return False


@pytest.fixture(scope="session")
def api(plane: "ControlPlane") -> "KubeApi":
    from support.kube_api import KubeApi

    return KubeApi(plane.kubeconfig)


@pytest.fixture
def namespace(api: "KubeApi", request: pytest.FixtureRequest) -> str:
    """An empty namespace."""
    made = api.create("/api/v1/namespaces", {"metadata": {"generateName": "test-"}})
    return made["metadata"]["name"]
