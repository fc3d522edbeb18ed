"""Rows of files, streamed: a file is never whole in memory, unless it is one document."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from itertools import chain
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from pretune_api.data import Source
from pretune_trainer.ahead import ahead
from pretune_trainer.data.delimited import delimited
from pretune_trainer.data.example import Place, Row
from pretune_trainer.data.features import features_of
from pretune_trainer.data.lines import record_of, text_of
from pretune_trainer.data.sources import Format, OpenedSource, SourceFile, explained, transcript_of
from pretune_trainer.errors import BadRowError, UserError, quoted, shortened

_CHUNK: Final = 2**20
"""Bytes read at once from a stream of lines."""
_ROWS: Final = 256
"""Rows read at once from Parquet."""
_BUFFER: Final = 4 * 2**20
"""Bytes asked of a store at once: of a column of Parquet, of which whole chunks are without a bound, or of a stream, of
which 64 KiB are where it is compressed."""
_FOOTERS: Final = 16
"""Footers of Parquet files read at once: each is small, and a store's answer takes its time."""
_FILES: Final = 8
"""Small files, such as images, read at once and held in memory."""
_SMALL: Final = 1024
"""Small files that make one unit, at most."""
_FILE_NAME: Final = "file_name"
"""Column of metadata with an image's path from its folder on."""
_POINTER: Final = b"version https://git-lfs.github.com/spec/"
"""How a file begins that stands for another one, which was not fetched with its repository."""
_LARGEST_POINTER: Final = 1024
"""Bytes that such a file stays below."""
_UNIT: Final = 256 * 2**20
"""Bytes of row groups, before compression, that make one unit."""
_CUT: Final = 64 * 2**20
"""Bytes of a file of lines that make one unit: one large file would keep one rank at work, and all others waiting."""
_BY_RUNS: Final[dict[Format, int]] = {
    "jsonl": 4 * 2**20,
    "csv": 4 * 2**20,
    "text": 4 * 2**20,
    "image": _UNIT,
    "audio": _UNIT,
}
"""Formats of files that may be many and small, and bytes of them that make one unit: a few MiB of text take seconds."""


@dataclass(frozen=True)
class Unit:
    """A piece of input read in one go: a file, some row groups of a Parquet file, or a run of small files."""

    source: int
    """Index of its source."""
    file: SourceFile
    """Where it is."""
    groups: tuple[int, int] = (0, 0)
    """Row groups from and until, of a Parquet file."""
    first: int = 1
    """Number of its first row in the file."""
    _: KW_ONLY
    span: tuple[int, int] | None = None
    """Bytes from and until, of a large file of lines: its rows are the lines that begin there."""
    size: int = 0
    """Bytes, to share the work evenly."""
    others: tuple[SourceFile, ...] = ()
    """Small files after the first one."""

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """All files that it has rows of."""
        return self.file, *self.others


def units(opened: OpenedSource, number: int, files: Sequence[SourceFile]) -> list[Unit]:
    """The units of a source, in order; they depend on nothing but the files.

    Raises:
        UserError: a file cannot be read, or lacks the source's column.
    """
    read = files_with_rows(files)
    with ThreadPoolExecutor(_FOOTERS) as pool:
        found = pool.map(partial(_units_of, opened, number), [file for file in read if file.format not in _BY_RUNS])
        units = [unit for some in found for unit in some]
    runs = (_runs(number, [file for file in read if file.format == form], most) for form, most in _BY_RUNS.items())
    return [*units, *chain.from_iterable(_cut(opened.source, unit) for unit in chain.from_iterable(runs))]


def files_with_rows(files: Sequence[SourceFile]) -> list[SourceFile]:
    """What of a source is read as rows: not the text beside audio, and not the images that metadata stands for."""
    heard = {transcript_of(file.path) for file in files if file.format == "audio"}
    folders = tuple(f"{file.path.rpartition('/')[0]}/" for file in files if file.format == "metadata")
    return [
        file
        for file in files
        if file.path not in heard and not (file.format in ("image", "audio") and file.path.startswith(folders))
    ]


def rows(opened: OpenedSource, unit: Unit, columns: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of a unit. Of Parquet only the source's column is read, and `columns`; the source's `values` are added.

    Raises:
        BadRowError: a row is not valid JSON or CSV, or not UTF-8.
        UserError: the file is truncated or damaged.
        StorageError: the store refuses or cannot be reached.
    """
    found, same = _rows_of_files(opened, unit, columns), opened.source.values
    return (replace(row, values={**row.values, **same}) for row in found) if same else found


def _rows_of_files(opened: OpenedSource, unit: Unit, columns: Sequence[str]) -> Iterator[Row]:
    """Of several files, which are small, the next ones are read meanwhile: a store's answer takes its time."""
    if not unit.others:
        return _rows_of_file(opened, unit, columns)
    each = (replace(unit, file=file, others=()) for file in unit.files)
    return chain.from_iterable(ahead(lambda one: list(_rows_of_file(opened, one, columns)), each, _FILES))


def _rows_of_file(opened: OpenedSource, unit: Unit, columns: Sequence[str]) -> Iterator[Row]:
    with explained(unit.file.uri, f"{opened.where}.uri"):
        yield from _READERS[unit.file.format](opened, unit, columns)


def _units_of(opened: OpenedSource, number: int, file: SourceFile) -> list[Unit]:
    if file.format == "parquet":
        return list(_parquet_units(opened, number, file))
    return [Unit(number, file, size=file.size)]


def _runs(number: int, files: Sequence[SourceFile], most: int) -> Iterator[Unit]:
    """Runs of small files, of `most` bytes together; a larger file is a unit by itself."""
    run: list[SourceFile] = []
    size = 0
    for file in files:
        if run and (len(run) == _SMALL or size + file.size > most):
            yield Unit(number, run[0], size=size, others=tuple(run[1:]))
            run, size = [], 0
        run.append(file)
        size += file.size
    if run:
        yield Unit(number, run[0], size=size, others=tuple(run[1:]))


def is_cut(source: Source, file: SourceFile) -> bool:
    """Whether a file is read in several units: one of lines, larger than these are, that need not be unpacked. Not of
    CSV: whether a line begins a record is known only to whoever has read all before it."""
    of_lines = file.format == "jsonl" or (file.format == "text" and source.document == "line")
    return of_lines and file.compression is None and file.size > _CUT


def _cut(source: Source, unit: Unit) -> Iterator[Unit]:
    if not is_cut(source, unit.file):
        yield unit
        return
    for start in range(0, unit.size, _CUT):
        stop = min(start + _CUT, unit.size)
        yield replace(unit, span=(start, stop), size=stop - start)


def _parquet_units(opened: OpenedSource, number: int, file: SourceFile) -> Iterator[Unit]:
    with explained(file.uri, f"{opened.where}.uri"), opened.filesystem.open_input_file(file.path) as handle:
        if file.size < _LARGEST_POINTER:
            _refuse_pointer(opened, file, handle.read())
        metadata = pq.ParquetFile(handle).metadata
    _check_column(opened, file, metadata.schema.to_arrow_schema().names)
    start, first, count, size = 0, 1, 0, 0
    for group in range(metadata.num_row_groups):
        count += metadata.row_group(group).num_rows
        size += metadata.row_group(group).total_byte_size
        if size >= _UNIT or group == metadata.num_row_groups - 1:
            yield Unit(number, file, (start, group + 1), first, size=size)
            start, first, count, size = group + 1, first + count, 0, 0


def _check_column(opened: OpenedSource, file: SourceFile, names: Sequence[str]) -> None:
    column = opened.source.column
    if column not in names:
        raise UserError(
            f"{opened.where}.column", f"{file.uri} has no column '{column}'; it has: {', '.join(sorted(names))}"
        )


def _parquet(opened: OpenedSource, unit: Unit, columns: Sequence[str]) -> Iterator[Row]:
    with opened.filesystem.open_input_file(unit.file.path) as handle:
        file = pq.ParquetFile(handle, buffer_size=_BUFFER)
        wanted = [
            name for name in {opened.source.column: 0, **dict.fromkeys(columns)} if name in file.schema_arrow.names
        ]
        batches = file.iter_batches(_ROWS, row_groups=range(*unit.groups), columns=wanted)
        yield from _parquet_rows(opened, unit, batches, file.schema_arrow)


def _parquet_rows(
    opened: OpenedSource, unit: Unit, batches: Iterator[pa.RecordBatch], schema: pa.Schema
) -> Iterator[Row]:
    number, features, names = unit.first, features_of(schema), schema.names
    for batch in batches:
        for values in _values(batch, Place(unit.file.uri, number)):
            yield Row(values, Place(unit.file.uri, number), opened.source.column, features=features, in_file=names)
            number += 1


def _values(batch: pa.RecordBatch, place: Place) -> list[dict[str, object]]:
    try:
        return list(batch.to_pylist())
    except UnicodeDecodeError as error:
        raise BadRowError(f"{place} and following", f"the text is not valid UTF-8 ({error.reason})") from error
    except (ValueError, OverflowError) as error:
        raise BadRowError(f"{place} and following", f"a time or a number cannot be read: {error}") from error


def _jsonl(opened: OpenedSource, unit: Unit, columns: Sequence[str]) -> Iterator[Row]:
    for place, record in _json_records(opened, unit.file, unit.span):
        yield Row(record, place, opened.source.column)


def _json_records(
    opened: OpenedSource, file: SourceFile, span: tuple[int, int] | None = None
) -> Iterator[tuple[Place, dict[str, object]]]:
    for number, line in enumerate(_lines(opened, file, span), start=1):
        if line.strip():
            place = Place(file.uri, number, span[0] if span else 0)
            yield place, record_of(line, place)


def _csv(opened: OpenedSource, unit: Unit, columns: Sequence[str]) -> Iterator[Row]:
    for place, record in _csv_records(opened, unit.file):
        yield Row(record, place, opened.source.column, holds_text_alone=True)


def _csv_records(opened: OpenedSource, file: SourceFile) -> Iterator[tuple[Place, dict[str, object]]]:
    return delimited(_lines(opened, file), file.uri, file.delimiter)


def _plain(opened: OpenedSource, unit: Unit, columns: Sequence[str]) -> Iterator[Row]:
    column, start = opened.source.column, unit.span[0] if unit.span else 0
    for number, document in enumerate(_documents(opened, unit), start=1):
        place = Place(unit.file.uri, number, start)
        yield Row({column: text_of(document, place)}, place, column)


def _images(opened: OpenedSource, unit: Unit, columns: Sequence[str]) -> Iterator[Row]:
    folder = unit.file.uri.split("/")[-2]
    yield Row({"image": _whole(opened, unit.file), "label": folder}, Place(unit.file.uri, 1), "image")


def _metadata(opened: OpenedSource, unit: Unit, columns: Sequence[str]) -> Iterator[Row]:
    """The images that a metadata file names, each with what it says of them; the source's column is part of that."""
    records = _csv_records if unit.file.path.endswith(".csv") else _json_records

    def row(found: tuple[Place, dict[str, object]]) -> Row:
        place, record = found
        image = _named(unit.file, record, place)
        values = {"label": image.uri.split("/")[-2], **record, "image": _read_beside(opened, image, unit.file, place)}
        return Row(values, place, opened.source.column if opened.source.column in record else "image")

    return ahead(row, records(opened, unit.file), _FILES)


def _named(metadata: SourceFile, record: Mapping[str, object], place: Place) -> SourceFile:
    """The image of a record; no other folder's, whose files would not be part of the source."""
    name = Row(record, place, _FILE_NAME).value(_FILE_NAME)
    if not isinstance(name, str) or not name or name.startswith("/") or ".." in name.split("/"):
        raise BadRowError(
            str(place), f"'{_FILE_NAME}' is {quoted(name)}; expected the path of an image, relative to this folder"
        )
    folder, path = metadata.uri.rpartition("/")[0], metadata.path.rpartition("/")[0]
    return replace(metadata, uri=f"{folder}/{name}", path=f"{path}/{name}")


def _audio(opened: OpenedSource, unit: Unit, columns: Sequence[str]) -> Iterator[Row]:
    file, place = unit.file, Place(unit.file.uri, 1)
    content = _whole(opened, file)
    transcript = replace(file, uri=transcript_of(file.uri), path=transcript_of(file.path), compression=None)
    said = text_of(_read_beside(opened, transcript, file, place), place)
    yield Row({"audio": content, "text": said.strip()}, place, "audio")


def _read_beside(opened: OpenedSource, file: SourceFile, other: SourceFile, place: Place) -> bytes:
    """A file that there must be, since `other` in its folder, or above it, has a row with it."""
    with explained(file.uri, str(place)):
        try:
            return _whole(opened, file)
        except FileNotFoundError as error:
            name = file.path.removeprefix(f"{other.path.rpartition('/')[0]}/")
            raise BadRowError(str(place), f"there is no {shortened(name)} next to it") from error


def _documents(opened: OpenedSource, unit: Unit) -> Iterator[bytes]:
    if opened.source.document == "line":
        return _lines(opened, unit.file, unit.span)
    return iter([_whole(opened, unit.file)])


def _lines(opened: OpenedSource, file: SourceFile, span: tuple[int, int] | None = None) -> Iterator[bytes]:
    """Lines without their ends, all of them or those that begin in a span."""
    start, until = span or (0, None)
    at = max(0, start - 1)  # what is there ends a line, or belongs to one that began before
    for line in _split(_chunks(opened, file, at)):
        if until is not None and at >= until:
            return
        if at >= start:
            yield line.removesuffix(b"\r")
        at += len(line) + 1


def _split(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """What stands between line feeds; it may be longer than a chunk."""
    begun: list[bytes] = []
    for chunk in chunks:
        head, *rest = chunk.split(b"\n")
        begun.append(head)
        if rest:
            yield b"".join(begun)
            yield from rest[:-1]
            begun = [rest[-1]]
    if last := b"".join(begun):
        yield last


def _whole(opened: OpenedSource, file: SourceFile) -> bytes:
    return b"".join(_chunks(opened, file))


def _chunks(opened: OpenedSource, file: SourceFile, start: int = 0) -> Iterator[bytes]:
    with _stream(opened, file, start) as stream:
        while chunk := stream.read(_CHUNK):
            _refuse_pointer(opened, file, chunk)
            yield chunk


def _refuse_pointer(opened: OpenedSource, file: SourceFile, beginning: bytes) -> None:
    """Passed over, it would be data that is not there, such as all images of a repository, and nobody would know."""
    if beginning.startswith(_POINTER):
        said = f"{file.uri} is a pointer of Git LFS; run git lfs pull to fetch what it stands for, or remove it"
        raise UserError(f"{opened.where}.uri", said)


@contextmanager
def _stream(opened: OpenedSource, file: SourceFile, start: int) -> Iterator[pa.NativeFile]:
    """What is in a file, unpacked, or its bytes from `start` on."""
    if not start:
        with opened.filesystem.open_input_stream(file.path, file.compression, _BUFFER) as stream:
            yield stream
        return
    with opened.filesystem.open_input_file(file.path) as whole:
        whole.seek(start)
        yield pa.BufferedInputStream(whole, _BUFFER)


_READERS: Final[dict[Format, Callable[[OpenedSource, Unit, Sequence[str]], Iterator[Row]]]] = {
    "parquet": _parquet,
    "jsonl": _jsonl,
    "csv": _csv,
    "text": _plain,
    "image": _images,
    "audio": _audio,
    "metadata": _metadata,
}
