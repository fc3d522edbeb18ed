"""Write the report of a job into a file."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pretune_api.names import ExitCode
from pretune_cli.job_folder import job_folders
from pretune_cli.report.page import page
from pretune_cli.report.story import Story, read
from pretune_trainer.errors import UserError


def report(arguments: argparse.Namespace) -> int:
    """Write a report of each job that `arguments.job` means, and say where it is; the exit status.

    Raises:
        PretuneError: there is nothing to report, because of what its sentence says.
    """
    found = list(job_folders(arguments.job, arguments.namespace, arguments.overrides))
    if arguments.output is not None and len(found) > 1:
        raise UserError("--output", f"names one file, and {arguments.job} has {len(found)} jobs; remove it")
    for _, look in found:
        job = look()
        job.check_begun()
        story = read(job)
        _write(story, arguments.output or _file(story, [title for title, _ in found]))
    return ExitCode.OK


def _file(story: Story, titles: Sequence[str | None]) -> Path:
    """Named after the job, and after its kind, too, where one of the other kind has the same name."""
    job = story.config.job
    namesakes = [title for title in titles if title is not None and title.endswith(f"/{job.name}")]
    return Path(f"{job.kind.lower()}-{job.name}.html" if len(namesakes) > 1 else f"{job.name}.html")


def _write(story: Story, file: Path) -> None:
    try:
        file.write_text(page(story), encoding="utf-8")
    except OSError as error:
        raise UserError(str(file), f"cannot be written ({error.strerror}); use another --output") from error
    Console(soft_wrap=True).print(Text(f"{story.name}: {file}"))
