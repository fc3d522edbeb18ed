"""The files of a source, in an order that does not depend on how a store lists them."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
from pyarrow import fs

from pretune_api.data import Source
from pretune_trainer.data.globs import folder_of, is_glob, path_in, pattern_of, reaches_below
from pretune_trainer.data.objects import Objects
from pretune_trainer.errors import PretuneError, StorageDeniedError, StorageError, UserError

Format = Literal["parquet", "jsonl", "csv", "text", "image", "audio", "metadata"]
METADATA: Final = ("metadata.csv", "metadata.jsonl")
"""Files that say what is known of the images in their folder, as in Hugging Face's imagefolder."""
_TRANSCRIPT: Final = ".txt"
"""What is said in a file of audio is in one of the same name."""

_FORMATS: Final[dict[str, Format]] = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".rst": "text",
    ".png": "image",
    ".jpg": "image",
    ".jpeg": "image",
    ".wav": "audio",
    ".flac": "audio",
    ".mp3": "audio",
    ".ogg": "audio",
}
_ACCOMPANIED: Final[tuple[Format, ...]] = ("audio", "metadata")
"""Formats of files that others are read with."""
_COMPRESSIONS: Final = {".gz": "gzip", ".zst": "zstd"}
_PATIENCE: Final = timedelta(seconds=60)
"""How long a store that fails is asked again."""
_ATTEMPTS: Final = 8
"""Times that S3 is asked, with pauses of up to 1, 2, 4, … 20 s: of 46 s in all, on average. By default it is 3."""
_VERSIONED: Final = {"_delta_log": "Delta", ".hoodie": "Hudi"}
"""Folders in which tables keep their history, beside files of all versions."""
_REFUSALS: Final = (
    (r"HTTP status 301|the region '[^']*' is wrong", "{} is in another region; set the source's region, or AWS_REGION"),
    (
        r"curlCode: 60|CURL error \[60\]",
        "{} has a certificate of an authority that is not trusted; add it to the file that SSL_CERT_FILE names",
    ),
    (
        r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|HTTP status 40[013]",
        "reading {} is denied; check the credentials and permissions",
    ),
    (
        r"Errno 13?\b",
        f"reading {{}} is denied to user {os.getuid()} of group {os.getgid()}; check its owner, mode and mount",
    ),
)
"""What stores and file systems say that refuse, and what it means; S3 also of a bucket in another region."""
_UNREACHABLE: Final = re.compile(
    r"NETWORK_CONNECTION|curlCode|CURL error|Status\((UNAVAILABLE|DEADLINE_EXCEEDED|INTERNAL|ABORTED)|SLOW_DOWN"
    r"|SERVICE_UNAVAILABLE|HTTP status (429|5\d\d)|timed out|Errno (5|107|110|112|116)\b"
)
"""What stores say; and volumes, such as NFS or a bucket that is mounted, whose server is away."""
_NO_CREDENTIALS: Final = "Could not create a OAuth2 access token"
"""What Google's client says; also when whoever gives them is away."""


@dataclass(frozen=True)
class SourceFile:
    """One file of a source."""

    uri: str
    """Address, for messages."""
    path: str
    """Path, for the source's file system."""
    name: str
    """Path below the source's folder."""
    size: int
    """Bytes."""
    modified: int
    """When it was last written, in nanoseconds since 1970; 0 where the store does not say."""
    format: Format
    """What its bytes are."""
    compression: str | None
    """Codec around them."""

    @property
    def delimiter(self) -> str:
        """What stands between the fields of a record in CSV: a tab where its name says so."""
        return "\t" if _extension(self.path) == ".tsv" else ","


@dataclass(frozen=True)
class OpenedSource:
    """A source, reached: its files and the file system that they are in."""

    source: Source
    """What the job says."""
    where: str
    """The source's field path, such as spec.data.train[0]."""

    @cached_property
    def filesystem(self) -> fs.FileSystem | Objects:
        """The file system that the files are read through; credentials come from each cloud's usual variables."""
        scheme = self.source.uri.partition("://")[0]
        if scheme == "file":
            return fs.LocalFileSystem()
        if scheme == "s3":
            return _s3(self.source)
        if scheme == "gs":
            return _google(self.source)
        return Objects(self.source)

    def files(self) -> list[SourceFile]:
        """All files, ordered by path.

        Raises:
            UserError: there is none, or a file whose format is unknown.
            StorageError: the store refuses or cannot be reached.
        """
        with explained(self.source.uri, f"{self.where}.uri"):
            found = self._find()
        if not found:
            raise UserError(f"{self.where}.uri", f"{self.source.uri} matches no file; check the path")
        files = [self._describe(info) for info in sorted(found, key=lambda info: info.path)]
        self._check_tables(files)
        return files

    def _check_tables(self, files: Sequence[SourceFile]) -> None:
        """Refuse CSV beside images or audio: it holds neither, and its rows would be taken for examples."""
        table = next((file for file in files if file.format == "csv"), None)
        if table is not None and any(file.format in ("image", "audio") for file in files):
            raise UserError(
                f"{self.where}.uri",
                f"{table.uri} is a table among images or audio, and holds none; leave it out with a glob, such as *.jpg"
                " (a table of what images show is called metadata.csv)",
            )

    def _find(self) -> list[fs.FileInfo]:
        path, uri = self._path, self.source.uri
        info = self.filesystem.get_file_info(path)
        if info.type == fs.FileType.File:  # also one whose name looks like a glob
            beside = self._below(info.path.rpartition("/")[0]) if self._format(info) in _ACCOMPANIED else []
            return self._with_companions([info], beside)
        if is_glob(uri) and info.type != fs.FileType.Directory:  # a folder's name, too, may look like a glob
            return self._matching(folder_of(uri), pattern_of(uri), deep=reaches_below(uri))
        listed = self._below(path)
        self._check_versions(listed)
        return [info for info in listed if not _hidden(info.path[len(path) :])]

    def _check_versions(self, listed: Sequence[fs.FileInfo]) -> None:
        """Refuse a table of which files of older versions would be read, too: rows would come twice, or be back."""
        for info in listed:
            for name in _VERSIONED.keys() & set(info.path.split("/")[:-1]):
                raise UserError(
                    f"{self.where}.uri",
                    f"{self.source.uri} is a {_VERSIONED[name]} table, whose folder also has files of older versions; "
                    "write its current version as Parquet, or read all files with a glob such as *.parquet, or "
                    "date=*/*.parquet where there are partitions",
                )

    def _matching(self, folder: str, wanted: re.Pattern[str], *, deep: bool) -> list[fs.FileInfo]:
        """Files whose paths are as `wanted`; beside them, or in folders `deep` below, there may be millions."""
        listed = self._below(folder, deep=deep)
        found = [info for info in listed if wanted.fullmatch(info.path)]
        if not deep and any(self._format(info) == "metadata" for info in found):
            listed = self._below(folder)  # its images may lie anywhere below
        return self._with_companions(found, listed)

    def _with_companions(self, found: list[fs.FileInfo], listed: Sequence[fs.FileInfo]) -> list[fs.FileInfo]:
        """`found`, and those of `listed` that are read with them: when these change, the data has changed."""
        said = {transcript_of(info.path) for info in found if self._format(info) == "audio"}
        folders = tuple(f"{info.path.rpartition('/')[0]}/" for info in found if self._format(info) == "metadata")
        known = {info.path for info in found}
        return found + [
            info
            for info in listed
            if info.path not in known
            and (info.path in said or (info.path.startswith(folders) and self._format(info) == "image"))
        ]

    def _below(self, folder: str, *, deep: bool = True) -> list[fs.FileInfo]:
        if isinstance(self.filesystem, fs.LocalFileSystem):
            return list(self._walk(folder, deep=deep))
        selector = fs.FileSelector(folder, recursive=deep, allow_not_found=True)
        return [info for info in self.filesystem.get_file_info(selector) if info.type == fs.FileType.File]

    def _walk(self, folder: str, around: frozenset[str] = frozenset(), *, deep: bool) -> Iterator[fs.FileInfo]:
        """Files in a local folder, `deep` also below it, and links to nothing; no link to a folder that is `around` it
        is followed.

        pyarrow would follow such a link 40 times, and give every file as often.
        """
        here = os.path.realpath(folder)
        if here in around:
            return
        for info in self.filesystem.get_file_info(_listed(folder)):
            if info.type == fs.FileType.Directory:
                if deep:
                    yield from self._walk(info.path, around | {here}, deep=True)
            elif info.type == fs.FileType.File or (info.type == fs.FileType.NotFound and Path(info.path).is_symlink()):
                yield info

    @property
    def _path(self) -> str:
        return path_in(self.source.uri)

    def _describe(self, info: fs.FileInfo) -> SourceFile:
        uri = f"{self.source.uri.partition('://')[0]}://{info.path}"
        if info.type == fs.FileType.NotFound:
            raise UserError(f"{self.where}.uri", f"{uri} is a link to nothing; correct or remove it")
        form, compression = self._format(info), _uncompressed(info.path)[1]
        if form is None:
            known = ", ".join(_FORMATS)
            raise UserError(
                f"{self.where}.uri",
                f"the format of {uri} is not clear from its name; set format, or use one of {known}"
                " (convert tables such as Excel's to CSV or Parquet; leave other files out with a glob, such as *.jpg)",
            )
        if form == "parquet" and compression is not None:
            raise UserError(
                f"{self.where}.uri", f"{uri} is Parquet compressed with {compression}, which cannot be read; unpack it"
            )
        return SourceFile(uri, info.path, self._name(info.path), info.size, info.mtime_ns or 0, form, compression)

    def _format(self, info: fs.FileInfo) -> Format | None:
        if info.base_name in METADATA and self.source.format in (None, "image"):
            return "metadata"
        extension = _extension(info.path)
        if extension == _TRANSCRIPT and self.source.format == "audio":
            return "text"
        return self.source.format or _FORMATS.get(extension)

    def _name(self, path: str) -> str:
        """Relative to the folder of the source: what it is called wherever the folder lies."""
        root = self._path
        folder = root if path.startswith(f"{root}/") else folder_of(self.source.uri)
        return path[len(folder) :].lstrip("/")


def _listed(folder: str) -> list[str]:
    """The paths in a local folder. pyarrow leaves links to nothing out when it lists one, as if the data were whole."""
    try:
        return [str(path) for path in Path(folder).iterdir()]
    except FileNotFoundError:
        return []


def transcript_of(path: str) -> str:
    """Where what is said in a file of audio is written down: beside it. Of a path, or a URI."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}{_TRANSCRIPT}"


def open_sources(sources: Sequence[Source], field: str) -> list[OpenedSource]:
    """Sources with their field paths; `field` is spec.data.train or spec.data.validation.sources."""
    return [OpenedSource(source, f"{field}[{number}]") for number, source in enumerate(sources)]


@contextmanager
def explained(uri: str, where: str) -> Iterator[None]:
    """Turn what goes wrong while reading `uri` into a sentence.

    Raises:
        UserError: the file is damaged, or is not what it should be.
        StorageDeniedError: the store refuses.
        StorageError: the store cannot be reached.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(where, f"{uri} is gone since the source was listed; keep it while a job reads it") from error
    except (OSError, EOFError, pa.ArrowException) as error:
        raise _explain(error, uri, where) from error


def _explain(error: Exception, uri: str, where: str) -> PretuneError:
    gist = str(error).strip().partition("\n")[0]
    for pattern, sentence in _REFUSALS:
        if re.search(pattern, gist):
            return StorageDeniedError(f"{where}: {sentence.format(uri)}")
    if _UNREACHABLE.search(gist):
        return StorageError(f"{where}: {uri} cannot be reached, check its endpoint and the network: {gist}")
    if _NO_CREDENTIALS in gist:
        said = gist.rpartition("The underlying error message was: ")[2].partition(" error_info=")[0]
        return StorageDeniedError(
            f"{where}: there are no credentials for {uri}; check GOOGLE_APPLICATION_CREDENTIALS, or give the pod an"
            f" identity ({said})"
        )
    return UserError(where, f"{uri} cannot be read; is it truncated or damaged? ({gist})")


def _google(source: Source) -> fs.GcsFileSystem:
    options: dict[str, str] = {}
    if source.endpoint:
        options["scheme"], _, options["endpoint_override"] = source.endpoint.rstrip("/").partition("://")
    return fs.GcsFileSystem(**options, retry_time_limit=_PATIENCE)  # by default it is quiet for 15 minutes


def _s3(source: Source) -> fs.S3FileSystem:
    endpoint = source.endpoint or os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT")
    options: dict[str, str] = {}
    if endpoint:
        options["scheme"], _, options["endpoint_override"] = endpoint.rstrip("/").partition("://")
    if region := source.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        options["region"] = region
    if options and "AWS_ACCESS_KEY_ID" in os.environ:
        # Even then the SDK asks EC2's metadata service, where no variable names a region, and waits 4 s for an answer.
        os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    return fs.S3FileSystem(**options, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS))


def _extension(path: str) -> str:
    """How a file's name ends, before that of a compression: .jsonl of a.jsonl.gz."""
    return "." + _uncompressed(path)[0].rpartition("/")[2].rpartition(".")[2].lower()


def _uncompressed(path: str) -> tuple[str, str | None]:
    for extension, codec in _COMPRESSIONS.items():
        if path.lower().endswith(extension):
            return path[: -len(extension)], codec
    return path, None


def _hidden(path: str) -> bool:
    """Markers and bookkeeping of other tools, such as _SUCCESS or .part-0.crc."""
    return any(name.startswith((".", "_")) for name in path.strip("/").split("/"))
