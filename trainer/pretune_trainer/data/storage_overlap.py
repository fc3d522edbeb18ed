"""Sources must not overlap with what the job writes: it would learn from its own token cache and checkpoints."""

from typing import Final

from pretune_api.data import Data, Source
from pretune_api.storage import Storage
from pretune_trainer.data.globs import folder_of, is_glob, path_in
from pretune_trainer.errors import UserError

CACHE: Final = "cache"
"""Folder below `storage.uri` that all jobs share."""


def check_storage_overlap(data: Data, storage: Storage, namespace: str) -> None:
    """Refuse sources in which the job would find what jobs of its namespace write.

    Raises:
        UserError: a source is a folder around it, or a glob that reaches into it.
    """
    own = [f"{path_in(storage.uri)}/{folder}" for folder in (CACHE, namespace)]
    for where, source in data.every_source():
        if _same_store(source, storage) and any(_reaches(source, folder) for folder in own):
            raise UserError(
                f"{where}.uri",
                f"{source.uri} overlaps with spec.storage.uri, {storage.uri}, where the job stores its own files;"
                " use a separate folder, or a glob such as *.jsonl",
            )


def _same_store(source: Source, storage: Storage) -> bool:
    schemes = {location.uri.partition("://")[0] for location in (source, storage)}
    return len(schemes) == 1 and source.endpoint == storage.endpoint


def _reaches(source: Source, folder: str) -> bool:
    """Whether files in `folder` are among those of a source. Of globs only ** goes from a folder into those in it."""
    glob = is_glob(source.uri)
    if glob and "**" not in source.uri:
        return False
    path = (folder_of if glob else path_in)(source.uri)
    return f"{folder}/".startswith(f"{path.rstrip('/')}/")
