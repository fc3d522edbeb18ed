"""Object stores: how they are accessed, and where a job stores its output."""

from typing import Annotated

from pydantic import Field

from pretune_api.base import Spec
from pretune_api.units import URI, Endpoint


class SecretRef(Spec):
    """A Secret in the job's namespace with credentials for an object store."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the Secret."""
    access_key_id_key: Annotated[str, Field(min_length=1, max_length=253)] = "AWS_ACCESS_KEY_ID"
    """Key of the Secret that holds the access key ID."""
    secret_access_key_key: Annotated[str, Field(min_length=1, max_length=253)] = "AWS_SECRET_ACCESS_KEY"
    """Key of the Secret that holds the secret access key."""


class Location(Spec):
    """A place in an object store or a file system. On a laptop credentials come from the usual variables (AWS_*, …)."""

    uri: URI
    """Folder, file or glob, such as s3://bucket/path/ or s3://bucket/path/*.parquet."""
    endpoint: Endpoint | None = None
    """Address of the service, such as an S3-compatible one; defaults to the cloud's own."""
    region: Annotated[str | None, Field(min_length=1, max_length=64)] = None
    """Region of the bucket."""
    secret_ref: SecretRef | None = None
    """Secret with credentials; defaults to the pod's own identity (workload identity)."""


class Storage(Location):
    """Where the token cache and, under <uri>/<namespace>/<kind>-<name>-<uid>/, checkpoints, artifact and logs are
    stored."""
