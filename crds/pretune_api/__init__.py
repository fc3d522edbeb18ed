"""The Pretune API: `PretrainJob` and `FinetuneJob` (`pretune.dev/v1alpha1`), as pydantic models and nothing else."""

from pretune_api.jobs import FinetuneJob, Job, PretrainJob
from pretune_api.names import API_VERSION

__all__ = ["API_VERSION", "FinetuneJob", "Job", "PretrainJob"]
