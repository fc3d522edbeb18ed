"""How an object store is reached: addresses, credentials, patience, and what its errors mean for people."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import unquote

from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from pretune_api.storage import Location
from pretune_trainer.errors import MissingObjectError, ObjectExistsError, StorageDeniedError, StorageError

if TYPE_CHECKING:
    from obstore.store import AzureConfig, ClientConfig, GCSConfig, ObjectStore, RetryConfig, S3Config

FIRST_PAUSE_SECONDS: Final = 0.1
"""Before what has failed is tried again; it doubles with each failure."""
LONGEST_PAUSE_SECONDS: Final = 5.0
_CREDENTIALS: Final = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"),
}
"""Variables that come from people's Secrets, by kind of store."""


@dataclass(frozen=True)
class Patience:
    """How long a store that fails or stalls is waited for. Refused requests are never repeated."""

    connect_seconds: float = 5.0
    """Time for a connection to be made."""
    request_seconds: float = 60.0
    """Time for one request with its body, of at most `store.PART` bytes."""
    total_seconds: float = 60.0
    """Time after which nothing is tried again; a longer outage ends the attempt, and the next one resumes."""

    @classmethod
    def with_store_of(cls, location: Location) -> Self:
        """What the kind of store deserves: a file system that refuses once refuses again."""
        return cls(total_seconds=0) if location.uri.startswith("file://") else cls()

    def client(self) -> "ClientConfig":
        """Timeouts of single requests, in obstore's words."""
        return {
            # Says only that an endpoint may be http://; the stores' own addresses are https.
            "allow_http": True,
            "connect_timeout": timedelta(seconds=self.connect_seconds),
            "timeout": timedelta(seconds=self.request_seconds),
        }

    def retries(self) -> "RetryConfig":
        """Repetitions with growing pauses, in obstore's words: time bounds them, their number does not."""
        return {
            "max_retries": 1_000,
            "retry_timeout": timedelta(seconds=self.total_seconds),
            "backoff": {
                "init_backoff": timedelta(seconds=FIRST_PAUSE_SECONDS),
                "max_backoff": timedelta(seconds=LONGEST_PAUSE_SECONDS),
                "base": 2,
            },
        }


def connect(location: Location, patience: Patience) -> tuple["ObjectStore", str]:
    """The bucket (or file system) of a location, and the path of its folder in it. Nothing is asked of it yet.

    Raises:
        StorageError: stores of that kind are not known, or lack a setting without which they cannot be asked.
    """
    scheme, _, rest = location.uri.partition("://")
    _require_tidy(location.uri)
    if scheme == "file":
        return LocalStore("/"), _checked(str(PurePosixPath(unquote(rest))), location.uri)
    bucket, _, path = rest.partition("/")
    with explained("open", location.uri):
        return _bucket(scheme, bucket, location, patience), _checked(path, location.uri)


def _require_tidy(uri: str) -> None:
    """Refuse credentials with a line break, such as `echo` leaves at the end of a Secret: obstore panics at them."""
    for name in _CREDENTIALS.get(uri.partition("://")[0], ()):
        if os.environ.get(name, "").strip() != os.environ.get(name, ""):
            raise StorageDeniedError(
                f"{uri}: cannot open: {name} begins or ends with a blank or a line break; remove it from the Secret"
            )


def _checked(path: str, uri: str) -> str:
    """A folder's path as obstore takes it."""
    path = path.strip("/")
    if path and not set(path.split("/")).isdisjoint({"", ".", ".."}):
        raise StorageDeniedError(f"{uri}: cannot open: a path must not have //, . or .. in it; mend the URI")
    return path


def _bucket(scheme: str, bucket: str, location: Location, patience: Patience) -> "ObjectStore":
    client, retries = patience.client(), patience.retries()
    if scheme == "s3":
        return S3Store(bucket, config=_address(location), client_options=client, retry_config=retries)
    if scheme == "gs":
        google: GCSConfig = {"base_url": location.endpoint} if location.endpoint else {}
        return GCSStore(bucket, config=google, client_options=client, retry_config=retries)
    azure: AzureConfig = {"endpoint": location.endpoint} if location.endpoint else {}
    return AzureStore(bucket, config=azure, client_options=client, retry_config=retries)


def _address(location: Location) -> "S3Config":
    """What the location fixes; AWS_* variables fill in the rest, credentials among them."""
    address: S3Config = {}
    if location.endpoint is not None:
        address["endpoint"] = location.endpoint
    if location.region is not None:
        address["region"] = location.region
    return address


@dataclass(frozen=True)
class _Meaning:
    """What a store's message means."""

    pattern: str
    error: type[StorageError]
    sentence: str


_MEANINGS: Final = (
    _Meaning(
        r"<Code>(NoSuchBucket|InvalidBucketName|ContainerNotFound|InvalidResourceName)",
        StorageDeniedError,
        "the bucket does not exist; create it, or correct the URI",
    ),
    _Meaning(
        r"<Code>NoSuchUpload",
        StorageError,
        "the upload was aborted; look at the bucket's lifecycle rules, which may do so after days, not hours",
    ),
    _Meaning(r"os error (28|122)\b", StorageError, "the disk is full; free some space, or use another storage.uri"),
    _Meaning(
        r"os error (1|13|30)\b", StorageDeniedError, "permission denied; check the folder's owner, mode and mount"
    ),
    _Meaning(
        r"os error 20\b", StorageDeniedError, "there is a file where a folder is needed; remove it, or correct the URI"
    ),
    _Meaning(r"Unable to create dir", StorageDeniedError, "its folder cannot be created; correct the URI"),
    _Meaning(
        r"/latest/api/token in |(default|oauth2)/token\?|Missing (AccessKeyId|SecretAccessKey)",
        StorageDeniedError,
        "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (for gs://"
        " GOOGLE_APPLICATION_CREDENTIALS, for az:// AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY),"
        " or give the pod an identity",
    ),
    _Meaning(
        r"Account must be specified",
        StorageDeniedError,
        "no storage account is named; set AZURE_STORAGE_ACCOUNT_NAME, whether the pod has a key or an identity",
    ),
    _Meaning(
        r"<Code>(InvalidAccessKeyId|SignatureDoesNotMatch|InvalidClientTokenId)",
        StorageDeniedError,
        "the credentials are wrong; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the Secret they come from",
    ),
    _Meaning(
        r"<Code>AuthenticationFailed|Invalid Access Key",
        StorageDeniedError,
        "the credentials are wrong; check AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or the Secret they"
        " come from",
    ),
    _Meaning(
        r"Error performing token request: .*status code: 40[013]",
        StorageDeniedError,
        "the pod's identity is given no token; check its service account, and what the cloud trusts it with",
    ),
    _Meaning(
        r"Failed to read token file|Error reading federated token file",
        StorageDeniedError,
        "the file with the token of the pod's identity, which AWS_WEB_IDENTITY_TOKEN_FILE or AZURE_FEDERATED_TOKEN_FILE"
        " names, cannot be read; leave that variable to the cloud's webhook, and check that it has changed the pod",
    ),
    _Meaning(
        r"unknown variant `external_account",
        StorageDeniedError,
        "GOOGLE_APPLICATION_CREDENTIALS names a federated identity (external_account), by which nothing can be stored;"
        " name the key of a service account",
    ),
    _Meaning(
        r"Unable to (open|decode) service account file",
        StorageDeniedError,
        "GOOGLE_APPLICATION_CREDENTIALS does not name the key of a service account; correct it, or give the pod an"
        " identity",
    ),
    _Meaning(
        r"contained empty path segment", StorageDeniedError, "an object there has // in its name; rename or remove it"
    ),
    _Meaning(r"<Code>ExpiredToken", StorageDeniedError, "the credentials have expired; renew them"),
)


_REFUSAL: Final = "access denied; check the credentials and permissions"
_REFUSED: Final = re.compile(r"status code: 40[13]\b")
"""Said of a listing, or of a token: obstore has no kind of error for these."""
_UNTRUSTED: Final = re.compile(r"InvalidCertificate\(\s*UnknownIssuer")
"""How obstore says it, in its tree alone."""
_ONLY_ONCE: Final = re.compile(r"<Code>(RequestTimeout|NoSuchUpload)")
"""What S3 says, with status 400, of a body that came too slowly; and of an upload that was aborted meanwhile, or is
complete: then obstore has asked for that once more, because the answer was lost."""


@contextmanager
def explained(doing: str, uri: str) -> Iterator[None]:
    """Turn the store's errors into ours, with a sentence that names `uri` and what to check.

    Raises:
        MissingObjectError: there is nothing at `uri`.
        ObjectExistsError: there is something already.
        StorageDeniedError: credentials or rights are missing.
        StorageError: everything else, from a full disk to an outage.
    """
    try:
        yield
    except (BaseError, OSError) as error:
        raise _explain(error, doing, uri) from error


def passes(error: StorageError, seconds: float, patience: Patience) -> bool:
    """Whether a request that has failed after so many seconds may succeed if it is made again.

    obstore repeats neither what S3 calls a mistake of ours, nor requests whose answers broke off.
    """
    text = _text(error.__cause__)
    return _ONLY_ONCE.search(text) is not None or ("HTTP error" in text and seconds < patience.total_seconds)


def _text(error: BaseException | None) -> str:
    """What follows repeats the same as a tree of Rust's, names of settings included."""
    return str(error).split("\n\nDebug source:", 1)[0]


def _explain(error: Exception, doing: str, uri: str) -> StorageError:
    text = _text(error)
    if _UNTRUSTED.search(str(error)):
        said = "the authority of the store's certificate is not trusted; add it to the file that SSL_CERT_FILE names"
        return StorageDeniedError(f"{uri}: cannot {doing}: {said}")
    for meaning in _MEANINGS:
        if re.search(meaning.pattern, text):
            return meaning.error(f"{uri}: cannot {doing}: {meaning.sentence}{_entra_code(text)}")
    match error:
        case FileNotFoundError():
            return MissingObjectError(f"{uri}: cannot {doing}: it does not exist")
        case AlreadyExistsError():
            return ObjectExistsError(f"{uri}: cannot {doing}: it already exists")
        case PermissionDeniedError() | UnauthenticatedError():
            return StorageDeniedError(f"{uri}: cannot {doing}: {_REFUSAL}")
    if _REFUSED.search(text):
        return StorageDeniedError(f"{uri}: cannot {doing}: {_REFUSAL}")
    return StorageError(f"{uri}: cannot {doing}: {_gist(text)}")


def _entra_code(text: str) -> str:
    """What Microsoft Entra calls a failure: its pages on each say what to change."""
    code = re.search(r"AADSTS\d+", text)
    return f" ({code[0]})" if code else ""


def _gist(text: str) -> str:
    """What a failure without a meaning of its own comes down to."""
    if "HTTP error" in text:
        return "the store cannot be reached, or does not respond; check its endpoint and the network"
    if re.search(r"status code: 5\d\d", text):
        return "the store keeps failing; check its health, then try again"
    code = re.search(r"<Code>(\w+)</Code>", text)
    line = text.split("\n", 1)[0].split(": <?xml", 1)[0]
    return f"{line} ({code[1]})" if code else line
