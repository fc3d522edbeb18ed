"""What stands for a resource's uid on one machine: a hash, so that a second run finds what the first has made."""

import hashlib
import json
from collections.abc import Mapping

from pretune_api.jobs import Job
from pretune_api.manifest import COMMITTED_NAME
from pretune_api.run_config import Folder
from pretune_cli.chain import namespace_of
from pretune_trainer.data.inputs import data_sources
from pretune_trainer.data.storage_overlap import CACHE
from pretune_trainer.errors import MissingObjectError
from pretune_trainer.storage.store import Store


def fingerprint(job: Job) -> str:
    """A digest of the job's own inputs: what its spec fixes, and name, size and time of every file it reads.

    Where the storage lies is left out: it may be moved, or mounted elsewhere.

    Raises:
        UserError: a source has no file.
        StorageError: a source, or the folder of a model, cannot be listed.
    """
    spec = job.spec.model_dump(mode="json", exclude_none=True, exclude={*job.spec.mutable, "storage"})
    files = [
        [source.opened.source.uri, file.name, file.size, file.modified]
        for source in data_sources(job.spec.data)
        for file in source.opened.files()
    ]
    parents = [(parent.uri, parent.digest) for parent in job.spec.parents()]
    models = [_model_in(uri, job) for uri, digest in parents if uri is not None and digest is None]
    return _digest([job.kind, job.metadata.name, spec, files, *models])


def uid(fingerprint: str, job: Job, artifacts: Mapping[str, Folder]) -> str:
    """A digest of the job's own inputs and of the models it starts from: another parent makes another job."""
    parents = [artifacts[parent.job].digest for parent in job.spec.parents() if parent.job is not None]
    return _digest([fingerprint, parents])


def _model_in(uri: str, job: Job) -> object:
    """What tells one model in a folder from another: an artifact's digest, or name, size and time of its files.

    What jobs store there is no part of it: it would be another model each time.
    """
    storage = job.spec.storage
    folder = Store.open(storage.model_copy(update={"uri": uri}))
    below = f"{storage.uri.rstrip('/')}/".removeprefix(f"{folder.uri}/")
    stored = (below,) if below else (f"{CACHE}/", f"{namespace_of(job)}/")
    try:
        return folder.get(COMMITTED_NAME).decode()
    except MissingObjectError:
        files = [file for file in folder.list() if not file.path.startswith(stored)]
        return [[file.path, file.size, file.modified] for file in files]


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:32]
