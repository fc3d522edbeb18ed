"""A real API server that knows our kinds and KubeRay's."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster.binaries import programs
from e2e.cluster.control_plane import ControlPlane, control_plane
from e2e.cluster.process import wait_until
from support.kube_api import KubeApi, RefusedError

CRDS = Path(__file__).parents[2] / "crds"
_KINDS = ("pretune.dev/v1alpha1/pretrainjobs", "pretune.dev/v1alpha1/finetunejobs", "ray.io/v1/rayjobs")


@contextmanager
def plane_with_kinds(folder: Path) -> Iterator[ControlPlane]:
    """The API server, until the context ends; all of its state is in `folder`."""
    with control_plane(folder) as plane:
        define_jobs(plane)
        define_ray(plane)
        api = KubeApi(plane.kubeconfig)
        wait_until(lambda: all(_served(api, kind) for kind in _KINDS), "all kinds are served")
        yield plane


def define_jobs(plane: ControlPlane) -> None:
    """Our two kinds."""
    _create(plane, CRDS)


def define_ray(plane: ControlPlane) -> None:
    """KubeRay's kinds, from the module that it is built from."""
    _create(plane, programs("kuberay") / "config/crd/bases")


def _create(plane: ControlPlane, folder: Path) -> None:
    for path in sorted(folder.glob("*.yaml")):
        plane.kubectl("create", "--filename", path)


def _served(api: KubeApi, kind: str) -> bool:
    try:
        return bool(api.get(f"/apis/{kind}?limit=1"))
    except RefusedError:
        return False
