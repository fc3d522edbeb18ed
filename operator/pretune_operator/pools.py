"""Which pool of nodes a job gets."""

from typing import Literal

from pretune_api.compute import Compute
from pretune_operator.errors import UnfitError
from pretune_operator.settings import Pool, Settings


def pool_of(compute: Compute, namespace: str, settings: Settings) -> Pool:
    """The pool of a job in `namespace`.

    Raises:
        UnfitError: there is no such pool, it is closed to the namespace, or its nodes have too few GPUs.
    """
    name = compute.pool or settings.default_pool
    open_to = {known for known, pool in settings.pools.items() if _is_open(pool, namespace)}
    pool = settings.pools.get(name)
    if pool is None:
        raise UnfitError(f"spec.compute.pool: there is no pool {name}; {_choice(open_to, namespace)}")
    if name not in open_to:
        raise UnfitError(f"spec.compute.pool: {name} is closed to namespace {namespace}; {_choice(open_to, namespace)}")
    if compute.gpus_per_worker > pool.gpus_per_node:
        raise UnfitError(
            f"spec.compute.gpusPerWorker: {compute.gpus_per_worker} is more than a node of pool {name} has"
            f" ({pool.gpus_per_node}); request at most as many, and more workers"
        )
    return pool


def device_of(compute: Compute) -> Literal["cpu", "cuda"]:
    """What each rank of a job computes on."""
    return "cuda" if compute.gpus_per_worker > 0 else "cpu"


def _is_open(pool: Pool, namespace: str) -> bool:
    return pool.namespaces is None or namespace in pool.namespaces


def _choice(names: set[str], namespace: str) -> str:
    return f"known pools: {', '.join(sorted(names))}" if names else f"no pool is open to namespace {namespace}"
