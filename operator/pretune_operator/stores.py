"""How pods reach a job's stores: which they can, and with whose credentials."""

from collections.abc import Iterator
from typing import Any, Final

from pretune_api.jobs import JobSpec
from pretune_api.storage import Location, SecretRef
from pretune_operator.errors import UnfitError

_LOCAL: Final = "file://"
_CLAIM: Final = "pvc://"


def check_stores(spec: JobSpec) -> None:
    """Refuse stores that pods would not find, or would ask with the wrong credentials.

    Raises:
        UnfitError: a folder of one machine or a claim is named, or two sets of credentials are.
    """
    for place, location in _locations(spec):
        if location.uri.startswith(_LOCAL):
            raise UnfitError(f"{place}.uri: {location.uri} is on a single machine; use a store that all pods can reach")
        if location.uri.startswith(_CLAIM):
            raise UnfitError(f"{place}.uri: pvc:// is not supported yet; use s3://, gs:// or az://")
        if location.secret_ref not in (None, spec.storage.secret_ref):
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


def _locations(spec: JobSpec) -> Iterator[tuple[str, Location]]:
    yield "spec.storage", spec.storage
    for number, source in enumerate(spec.data.train):
        yield f"spec.data.train[{number}]", source
    validation = spec.data.validation
    for number, source in enumerate((validation.sources if validation else None) or ()):
        yield f"spec.data.validation.sources[{number}]", source
