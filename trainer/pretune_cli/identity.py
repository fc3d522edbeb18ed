"""What stands for a resource's uid on one machine: a hash, so that a second run finds what the first has made."""

import hashlib
import json
from collections.abc import Mapping

from pretune_api.jobs import FinetuneJob, PretrainJob
from pretune_api.run_config import Folder
from pretune_trainer.data.sources import OpenSource, open_sources

Job = PretrainJob | FinetuneJob


def fingerprint(job: Job) -> str:
    """A digest of the job's own inputs: what its spec fixes, and name, size and time of every file it reads.

    Where the storage lies is left out: it may be moved, or mounted elsewhere.

    Raises:
        UserError: a source has no file.
        StorageError: a source cannot be listed.
    """
    spec = job.spec.model_dump(mode="json", exclude_none=True, exclude={*job.spec.mutable, "storage"})
    files = [
        [source.source.uri, file.name, file.size, file.modified] for source in _sources(job) for file in source.files()
    ]
    return _digest([job.kind, job.metadata.name, spec, files])


def uid(fingerprint: str, job: Job, artifacts: Mapping[str, Folder]) -> str:
    """A digest of the job's own inputs and of the models it starts from: another parent makes another job."""
    parents = [artifacts[parent.job].digest for parent in job.spec.parents() if parent.job is not None]
    return _digest([fingerprint, parents])


def _sources(job: Job) -> list[OpenSource]:
    data = job.spec.data
    sources = open_sources(data.train, "spec.data.train")
    if data.validation is not None and data.validation.sources is not None:
        sources += open_sources(data.validation.sources, "spec.data.validation.sources")
    return sources


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:32]
