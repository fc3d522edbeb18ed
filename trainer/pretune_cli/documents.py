"""The jobs that stand in files, with what --set changes in them."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pretune_api.fields import places, python_names
from pretune_api.jobs import Job, JobModel
from pretune_api.names import Cause, ExitCode
from pretune_api.problems import KINDS, InvalidJobError, parse
from pretune_cli import yaml
from pretune_cli.chain import name_of
from pretune_cli.overrides import Override
from pretune_trainer.errors import PretuneError, UserError

_SCHEME: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:")
_LITERAL: Final = str.maketrans({character: f"%{ord(character):02X}" for character in "%*?["})
"""How characters are written in a URI that would mean something else there."""


class InvalidFilesError(PretuneError):
    """Files that are not all valid jobs; every problem is a line of its own."""

    cause = Cause.USER_ERROR
    exit_code = ExitCode.USER_ERROR


@dataclass(frozen=True)
class Document:
    """A job, and where it stands."""

    job: Job
    """The job."""
    file: Path
    """Its file."""
    number: int
    """Ordinal of the document in the file, from 1."""

    @property
    def name(self) -> str:
        """KIND/NAME of the job."""
        return name_of(self.job)

    def __str__(self) -> str:
        return f"{self.file} document {self.number}"


@dataclass(frozen=True)
class Reading:
    """What a number of files hold."""

    documents: list[Document]
    """The valid jobs, in the order in which they stand."""
    problems: list[str]
    """Everything that is wrong, each with its file, job and field."""


def load(files: Sequence[Path], overrides: Sequence[str] = ()) -> list[Document]:
    """The jobs of `files`, in the order in which they stand, after the overrides (`path=value`).

    Raises:
        InvalidFilesError: with every problem of every file.
    """
    reading = read(files, overrides)
    if reading.problems:
        raise InvalidFilesError("\n".join(reading.problems))
    return reading.documents


def read(files: Sequence[Path], overrides: Sequence[str] = ()) -> Reading:
    """What `files` hold, after the overrides (`path=value`): valid jobs, and every problem."""
    problems: list[str] = []
    raw = [document for file in files for document in _raw_documents(file, problems)]
    for text in overrides:
        problems += _override(text, raw)
    documents = [job for document in raw for job in _parsed(document, problems)]
    return Reading(documents, [*problems, *_twins(documents)])


def file_uri(text: str, folder: Path) -> str:
    """A local path, relative to `folder`, as a file:// URI; anything with a scheme stays as it is. Globs stay globs.

    In a path a percent sign is itself, in a URI it begins the code of a character; and `folder` is no glob.
    """
    if _SCHEME.match(text):
        return text
    path = Path(text)
    with suppress(RuntimeError):  # nobody has such a home: ~name is a name like any other
        path = path.expanduser()
    written = Path(str(folder.absolute()).translate(_LITERAL), str(path).replace("%", "%25"))
    return f"file://{os.path.normpath(written)}"


@dataclass(frozen=True)
class _Raw:
    """A document that has not been judged."""

    value: Any
    file: Path
    number: int

    @property
    def kind(self) -> JobModel | None:
        return KINDS.get(str(self.value.get("kind"))) if isinstance(self.value, dict) else None

    def __str__(self) -> str:
        """The file, and the job in it, by name where it has one."""
        match self.value:
            case {"kind": str(kind), "metadata": {"name": str(name)}}:
                return f"{self.file}: {kind}/{name}"
        return f"{self.file}: document {self.number}"


def _raw_documents(file: Path, problems: list[str]) -> list[_Raw]:
    """The file's documents, local paths resolved against its folder. Empty ones are passed over, as by kubectl."""
    try:
        values = yaml.documents(file)
    except UserError as error:
        problems.append(str(error))
        return []
    found = [_Raw(value, file, number) for number, value in enumerate(values, 1) if value is not None]
    for raw in found:
        _resolve_paths(raw, file.parent)
    if not found:
        problems.append(f"{file}: contains no job; write a PretrainJob or a FinetuneJob")
    return found


def _resolve_paths(raw: _Raw, folder: Path) -> None:
    for place in places(raw.kind, raw.value) if raw.kind else ():
        uri = place.value.get("uri")
        if isinstance(uri, str) and uri and "uri" in python_names(place.model):
            place.value["uri"] = file_uri(uri, folder)


def _override(text: str, documents: list[_Raw]) -> Iterator[str]:
    """Change every document of a kind that has the field; what is wrong with the override, if anything.

    Paths in its value are meant from where the command is given.
    """
    try:
        override = Override.parsed(text)
        for raw in _with_field(override, documents):
            override.apply(raw.value)
            _resolve_paths(raw, Path.cwd())
    except UserError as error:
        yield str(error)


def _with_field(override: Override, documents: list[_Raw]) -> list[_Raw]:
    """The documents that can have the field; of a chain, in which one has chosen what it is a part of, only those that
    have: the child of a new model is no new model.
    """
    found, chosen, errors = [], [], []
    for raw in documents:
        try:
            if raw.kind:
                override.check(raw.kind)
                found.append(raw)
                chosen += [raw] if override.is_chosen(raw.kind, raw.value) else []
        except UserError as error:
            errors.append(error)
    if errors and not found:
        raise errors[0]
    return chosen or found


def _parsed(raw: _Raw, problems: list[str]) -> Iterator[Document]:
    try:
        yield Document(parse(raw.value), raw.file, raw.number)
    except InvalidJobError as error:
        problems += [f"{raw}: {problem}" for problem in error.problems]


def _twins(documents: list[Document]) -> Iterator[str]:
    first: dict[str, Document] = {}
    for document in documents:
        other = first.setdefault(document.name, document)
        if other is not document:
            yield f"{document}: {document.name} is already defined in {other}; rename one of them"
