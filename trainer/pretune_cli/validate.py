"""`pretune validate`: everything that can be known of files without reading data."""

from collections.abc import Sequence
from pathlib import Path

from pretune_api.names import ExitCode
from pretune_cli import chain, documents, streams
from pretune_trainer.data.storage_overlap import check_storage_overlap
from pretune_trainer.errors import UserError


def validate(files: Sequence[Path], overrides: Sequence[str]) -> int:
    """Print `KIND/NAME: ok` for each valid job, and every problem to stderr; the exit status."""
    reading = documents.read(files, overrides)
    problems = list(reading.problems)
    for document in reading.documents:
        if wrong := _overlap(document):
            problems.append(wrong)
        else:
            print(f"{document.name}: ok")
    problems += _cycles(reading)
    for problem in problems:
        streams.tell(problem)
    return ExitCode.USER_ERROR if problems else ExitCode.OK


def _overlap(document: documents.Document) -> str | None:
    job = document.job
    try:
        check_storage_overlap(job.spec.data, job.spec.storage, chain.namespace_of(job))
    except UserError as error:
        return f"{document.file}: {document.name}: {error}"
    return None


def _cycles(reading: documents.Reading) -> list[str]:
    try:
        chain.parents_first([document.job for document in reading.documents])
    except UserError as error:
        return [str(error)]
    return []
