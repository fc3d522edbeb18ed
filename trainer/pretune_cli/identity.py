"""What stands for a resource's uid on one machine: a hash, so that a second run finds what the first has made."""

import hashlib
import json
from collections.abc import Mapping

from pretune_api.jobs import Job
from pretune_api.run_config import Folder
from pretune_trainer.data.inputs import data_sources


def fingerprint(job: Job) -> str:
    """A digest of the job's own inputs: what its spec fixes, and name, size and time of every file it reads.

    Where the storage lies is left out: it may be moved, or mounted elsewhere.

    Raises:
        UserError: a source has no file.
        StorageError: a source cannot be listed.
    """
    spec = job.spec.model_dump(mode="json", exclude_none=True, exclude={*job.spec.mutable, "storage"})
    files = [
        [source.opened.source.uri, file.name, file.size, file.modified]
        for source in data_sources(job.spec.data)
        for file in source.opened.files()
    ]
    return _digest([job.kind, job.metadata.name, spec, files])


def uid(fingerprint: str, job: Job, artifacts: Mapping[str, Folder]) -> str:
    """A digest of the job's own inputs and of the models it starts from: another parent makes another job."""
    parents = [artifacts[parent.job].digest for parent in job.spec.parents() if parent.job is not None]
    return _digest([fingerprint, parents])


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:32]
