"""How pods reach a job's stores: which they can, and with whose credentials."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Any, Final
from urllib.parse import unquote

from pretune_api.compute import Compute
from pretune_api.jobs import JobSpec
from pretune_api.storage import SecretRef
from pretune_operator.errors import UnfitError

_LOCAL: Final = "file://"


def check_stores(spec: JobSpec) -> None:
    """Refuse stores that pods would not find, or would ask with the wrong credentials.

    Raises:
        UnfitError: a folder is named that is not in every pod, or two sets of credentials are.
    """
    if spec.storage.uri.startswith(_LOCAL):
        raise UnfitError(f"spec.storage.uri: {spec.storage.uri} is not in an object store; use s3://, gs:// or az://")
    for field, uri in _read(spec):
        if uri.startswith(_LOCAL) and not _may_be_in_pods(unquote(uri.removeprefix(_LOCAL)), spec.compute):
            raise UnfitError(
                f"{field}: {uri} is on a single machine; use a store that all pods can reach, or mount the"
                " PersistentVolumeClaim that holds it with spec.compute.volumes"
            )
    for place, source in spec.data.every_source():
        if source.secret_ref not in (None, spec.storage.secret_ref):
            raise UnfitError(
                f"{place}.secretRef: differs from spec.storage.secretRef, but pods have one set of credentials;"
                " use one that can read the sources and write to the storage"
            )


def credentials(secret: SecretRef | None) -> list[dict[str, Any]]:
    """Environment variables that bring a Secret's credentials to every client of S3, by reference.

    None where the pod's own identity speaks for it.
    """
    if secret is None:
        return []
    keys = {"AWS_ACCESS_KEY_ID": secret.access_key_id_key, "AWS_SECRET_ACCESS_KEY": secret.secret_access_key_key}
    return [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": key}}} for name, key in keys.items()
    ]


def _read(spec: JobSpec) -> Iterator[tuple[str, str]]:
    """The URIs of all that a job reads, each after its field."""
    for place, source in spec.data.every_source():
        yield f"{place}.uri", source.uri
    models = {"spec.model": spec.model.from_, "spec.tokenizer": spec.tokenizer and spec.tokenizer.from_}
    for place, model in models.items():
        if model and model.uri is not None:
            yield f"{place}.from.uri", model.uri


def _may_be_in_pods(path: str, compute: Compute) -> bool:
    """Whether `path` is on a volume; an image of the job's own may hold a model or data, too."""
    mounted = [volume.mount_path for volume in compute.volumes]
    return compute.image is not None or any(PurePosixPath(normpath(path)).is_relative_to(folder) for folder in mounted)
