"""Jobs as the operator holds them, and a configuration that fits them."""

from typing import Any

from pretune_api.problems import parse
from pretune_api.run_config import RunConfig
from pretune_operator.job import JobView
from pretune_operator.plan import Inputs, plan, ranks_of
from pretune_operator.pools import device_of
from pretune_operator.settings import Settings
from support.specs import PRETRAIN, changed

UID = "0123abcd-3a55-4c11-9d1e-7f2f6f0c5b11"

SETTINGS: dict[str, Any] = {
    "images": {"pretrain": "registry.test/pretrain:1", "finetune": "registry.test/finetune:1"},
    "pools": {
        "a100": {
            "nodeSelector": {"gpu": "a100"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "gpusPerNode": 8,
            "resources": {"cpu": "8", "memory": "64Gi", "ephemeralStorage": "100Gi"},
            "sharedMemory": "16Gi",
            "env": [{"name": "NCCL_IB_HCA", "value": "mlx5"}],
        },
        "small": {"gpusPerNode": 1, "namespaces": ["sandbox"]},
    },
    "defaultPool": "a100",
}


def settings(**changes: Any) -> Settings:
    """The configuration, with some of its fields changed."""
    return Settings.model_validate(SETTINGS | changes)


def view(document: dict[str, Any] = PRETRAIN, uid: str = UID, **changes: Any) -> JobView:
    """A job of the namespace `team`; `changes` are set in its spec: compute__workers=2 sets spec.compute.workers."""
    paths = {f"spec.{path.replace('__', '.')}": value for path, value in changes.items()}
    return JobView(parse(changed(document, paths)), uid=uid, namespace="team", generation=1)


def planned(job: JobView) -> RunConfig:
    """The run config of a job without parents."""
    compute = job.spec.compute
    return plan(job.resource, Inputs(job.uid, job.namespace, ranks_of(compute), device_of(compute)))
