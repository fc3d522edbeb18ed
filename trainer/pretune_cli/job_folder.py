"""Where a job's storage is: at a path or URI that is given, or as the job says in its file or on a cluster."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pretune_api.status import Status
from pretune_api.storage import Location, Storage
from pretune_cli.chain import name_of, order
from pretune_cli.documents import file_uri, load
from pretune_cli.namesakes import namesake
from pretune_cli.stages import Stages
from pretune_trainer.errors import UserError
from pretune_trainer.storage.store import Store

if TYPE_CHECKING:
    from pretune_cli.cluster import Cluster

_JOB: Final = r"(?:pretrainjob|finetunejob)-[^/]+-[0-9a-f]{8}"
_FOLDER: Final = re.compile(rf"^(.+/{_JOB})(?:/.*)?$")
_IS_JOB: Final = re.compile(rf"^(?:.+/)?{_JOB}$")

_NAME: Final = re.compile(r"^([A-Za-z]+/)?[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_BY_FOLDER: Final = "specify the job's folder instead of its file; pretune run prints it when it ends"


@dataclass(frozen=True)
class JobFolder:
    """A job's folder, and what its cluster says of it."""

    store: Store
    """The folder in the storage."""
    status: Status | None = None
    """None where no cluster was asked."""
    storage: Storage | None = None
    """Of a job in a file: where other jobs of its name are, too."""

    def check_begun(self) -> None:
        """Tell where a job of that name has run, if this one has not.

        Raises:
            UserError: there is one, with another spec, other data or another parent.
            StorageError: the storage cannot be read.
        """
        other = namesake(self.storage, self.store) if self.storage else None
        if other is not None:
            said = f"this job has not run, but one with another spec, data or parent has: {other.uri}"
            raise UserError(self.store.uri, f"{said}; repeat its --set, or specify that folder instead of the file")


Look = Callable[[], JobFolder]
"""A job's folder, as it is now."""


def job_folders(job: str, namespace: str | None, overrides: Sequence[str]) -> Iterator[tuple[str | None, Look]]:
    """Where each job is that `job` means, with its KIND/NAME where there may be several.

    `job` is a file with jobs that ran here, after the overrides (`path=value`); or a path, a URI, or a name on the
    cluster that the kubeconfig names.

    Raises:
        PretuneError: there is no such job, or its storage cannot be read.
    """
    file = Path(job)
    if file.is_file() and not _FOLDER.match(file_uri(job, Path.cwd())):
        jobs = order([document.job for document in load([file], overrides)], missing=_BY_FOLDER)
        for one, folder in Stages(jobs, ranks=1, device="cpu").folders():
            yield name_of(one) if len(jobs) > 1 else None, partial(JobFolder, folder, storage=one.spec.storage)
    elif overrides:
        raise UserError("--set", f"applies to files of jobs, and {job} is not one; remove --set and --storage")
    else:
        yield None, partial(_locate, job, namespace)


def _locate(job: str, namespace: str | None) -> JobFolder:
    if "://" in job or Path(job).exists():
        return JobFolder(_in_storage(file_uri(job, Path.cwd())))
    if not _NAME.match(job):
        raise UserError(job, "there is no such file or folder, and no job on a cluster can have that name")
    seen = _cluster(job, namespace).find(job)
    return JobFolder(Store.open(seen.storage).child(seen.ref.folder), seen.status)


def _cluster(job: str, namespace: str | None) -> "Cluster":
    """The cluster to look for `job` on; where there is none, a file or a folder may have been meant."""
    from pretune_cli.cluster import Cluster

    try:
        return Cluster(namespace)
    except UserError as error:
        said = f"there is no such file or folder, and no cluster to look for a job of that name: {error}"
        raise UserError(job, said) from error


def _in_storage(uri: str) -> Store:
    """The folder of the job that a URI lies in, such as its artifact's; or of the only job below it."""
    inside = _FOLDER.match(uri)
    if inside:
        return Store.open(Location(uri=inside[1]))
    root = Store.open(Location(uri=uri))
    jobs = list(_jobs_below(root))
    if len(jobs) == 1:
        return Store.open(Location(uri=jobs[0]))
    if not jobs:
        raise UserError(uri, "there is no job in it; specify the folder in spec.storage.uri, or that of an artifact")
    raise UserError(uri, f"there are several jobs in it; specify one of {', '.join(jobs)}")


def _jobs_below(root: Store) -> Iterator[str]:
    """The folders of jobs in a namespace's folder, or in those of all namespaces."""
    for folder in root.folders():
        for found in [folder] if _IS_JOB.match(folder) else root.folders(folder):
            if _IS_JOB.match(found):
                yield f"{root.uri}/{found}"
