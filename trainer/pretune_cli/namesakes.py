"""Jobs of one kind and name on one machine: another spec, other data or another parent makes another one."""

from operator import itemgetter
from typing import Final

from pretune_api.manifest import COMMITTED_NAME
from pretune_api.storage import Storage
from pretune_trainer.storage.store import Store

_UID: Final = 9
"""Characters that the name of a job's folder ends with: a dash, and the part of its uid."""


def namesake(storage: Storage, job: Store) -> Store | None:
    """The folder of the other job of that kind and name that has committed last; None if none has, or `job` has begun.

    Raises:
        StorageError: the storage cannot be read.
    """
    if job.folders():
        return None
    path = job.uri.removeprefix(f"{storage.uri.rstrip('/')}/")
    root, begins = Store.open(storage), path[:-_UID]
    named = [root.child(folder) for folder in root.folders(path.rpartition("/")[0]) if folder[:-_UID] == begins]
    committed = [(when, folder) for folder in named if (when := _last_commit(folder))]
    return max(committed, key=itemgetter(0))[1] if committed else None


def _last_commit(job: Store) -> int:
    """When a job last committed a checkpoint or its artifact, in nanoseconds since 1970; 0 if it never has."""
    found = [object_ for kind in ("artifact", "checkpoints") for object_ in job.list(kind)]
    return max((object_.modified for object_ in found if object_.path.endswith(f"/{COMMITTED_NAME}")), default=0)
