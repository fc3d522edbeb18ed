"""A group of ranks as Ray Train's workers, on this machine or on the cluster that the driver runs in."""

import importlib
import logging
import os
import tempfile
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pretune_trainer.drive.desk import Desk
from pretune_trainer.drive.group import Group, run_rank
from pretune_trainer.drive.logs import FORMAT, in_storage, own_source
from pretune_trainer.drive.reporting import open_sinks
from pretune_trainer.errors import OutOfMemoryError, PretuneError, RanksMissingError, lines_of

if TYPE_CHECKING:
    from pretune_trainer.drive.lean_trainer import LeanTrainer
    from pretune_trainer.drive.worker import Execute

_START_TIMEOUT: Final = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
_INTERVAL: Final = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"
_ENVIRONMENT: Final = {
    # The default, 60 s, is less than torch and transformers take to import on a slow machine.
    _START_TIMEOUT: "600",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray starts idle workers in advance, but Ray Train's have an environment of their own: they would never be used.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A process that asks Ray which nodes it is about to lose. Ray does not know: pods that have to go tell the desk.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
_ASKED_A_SECOND: Final = 500
"""Ranks that are asked how they are: each costs the head 0.35 ms of CPU (measured), and it may have but one."""
_SHORTEST_INTERVAL: Final = 0.5
"""Seconds after which all are asked again: how soon a rank that has returned, or is gone, is noticed."""
_LOCAL_OBJECT_STORE_BYTES: Final = 100 << 20
"""Nothing of ours travels through Ray's object store."""
_MOST_LOSSES: Final = 8
"""Times that lost ranks are replaced without a commit in between, before the attempt ends, and another driver, perhaps
elsewhere, goes on."""
_MOST_WAITS: Final = 2
"""Times that ranks are waited for again that did not start in ten minutes: those that did hold their machines."""


@dataclass(frozen=True)
class RaySettings:
    """What a group on Ray needs to know."""

    ranks: int
    """Number of ranks."""
    device: str
    """cpu or cuda."""
    address: str | None = None
    """Cluster to join; None starts Ray on this machine."""
    verbose: bool = False
    """Whether what Ray and the ranks print is shown."""
    execute: "Execute" = run_rank
    """What a rank does with an order."""


def on_ray(desk: Desk, settings: RaySettings) -> Group:
    """A group of ranks that Ray Train starts, and starts again when some are lost."""
    interval = max(_SHORTEST_INTERVAL, settings.ranks / _ASKED_A_SECOND)
    for name, value in (_ENVIRONMENT | {_INTERVAL: f"{interval:g}"}).items():
        os.environ.setdefault(name, value)
    return Group(lambda: _fit(desk, settings))


def _fit(desk: Desk, settings: RaySettings) -> None:
    import ray

    # Ray starts in other processes meanwhile.
    imports = threading.Thread(target=importlib.import_module, args=("ray.train.torch",))
    imports.start()
    if settings.address is None:
        cpus = max(settings.ranks, os.cpu_count() or 1)
        ray.init(
            "local",  # whatever cluster RAY_ADDRESS names, or was started on this machine
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=_LOCAL_OBJECT_STORE_BYTES,
            log_to_driver=settings.verbose,
            logging_level="INFO" if settings.verbose else "ERROR",
        )
    else:
        ray.init(settings.address)
    imports.join()
    with tempfile.TemporaryDirectory(prefix="pretune-ray-") as folder:
        try:
            _trainer(desk, settings, folder).fit()
        except Exception as error:
            if (known := _known(error)) is None:
                raise
            raise known from error


def _known(error: Exception) -> PretuneError | None:
    """What it means that Ray Train gave up, where Ray has ended processes for their memory or ranks did not start."""
    from ray.exceptions import OutOfMemoryError as KilledForMemory
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

    of_ranks = getattr(error, "worker_failures", {}).values()
    for found in (error, getattr(error, "controller_failure", None), *of_ranks):
        cause = getattr(found, "health_check_failure", found)  # what a rank that does not answer any more died of
        if isinstance(cause, KilledForMemory):
            return OutOfMemoryError(f"host: {lines_of(cause)[0]}; raise spec.compute.resources.memory")
        if isinstance(cause, WorkerGroupStartupTimeoutError):
            seconds = (_MOST_WAITS + 1) * float(os.environ[_START_TIMEOUT])
            return RanksMissingError(f"not all {cause.num_workers} ranks could start within {seconds:g} s")
    return None


def _trainer(desk: Desk, settings: RaySettings, folder: str) -> "LeanTrainer":
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig

    from pretune_trainer.drive.lean_trainer import LeanTrainer

    cpus = max(1, int(ray.cluster_resources().get("CPU", 1)) // settings.ranks)
    use_gpu = settings.device == "cuda"
    return LeanTrainer(
        desk,
        train_loop_per_worker=_train,
        train_loop_config={"desk": desk, "settings": settings},
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=settings.ranks,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": cpus, **({"GPU": 1} if use_gpu else {})},
        ),
        # Ray's own saved state is never read: we resume from our COMMITTED.
        run_config=RunConfig(
            name="pretune",
            storage_path=folder,
            failure_config=FailureConfig(max_failures=_MOST_LOSSES, controller_failure_limit=_MOST_WAITS),
        ),
    )


def _train(config: dict[str, Any]) -> None:
    """Ray Train's train function: one rank."""
    import ray.train
    from ray.train.torch import get_device

    from pretune_trainer.drive.worker import work
    from pretune_trainer.parallel import PATIENCE, Ranks

    logging.basicConfig(level=logging.INFO, format=FORMAT)
    context = ray.train.get_context()
    settings: RaySettings = config["settings"]
    ranks = Ranks(context.get_world_rank(), context.get_world_size(), get_device()).fork(PATIENCE)
    desk: Desk = config["desk"]
    desk.leave_address()
    work(desk, ranks, settings.execute, open_sinks, in_storage(own_source()))
