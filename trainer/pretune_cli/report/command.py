"""Write the report of a job into a file."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pretune_api.names import ExitCode
from pretune_cli.report.page import page
from pretune_cli.report.place import places
from pretune_cli.report.story import Story, read
from pretune_trainer.errors import UserError


def report(arguments: argparse.Namespace) -> int:
    """Write a report of each job that `arguments.job` means, and say where it is; the exit status.

    Raises:
        PretuneError: there is nothing to report, because of what its sentence says.
    """
    found = list(places(arguments.job, arguments.namespace, arguments.overrides))
    if arguments.output is not None and len(found) > 1:
        raise UserError("--output", f"names one file, and {arguments.job} has {len(found)} jobs; remove it")
    for _, look in found:
        _write(read(look()), arguments.output)
    return ExitCode.OK


def _write(story: Story, output: Path | None) -> None:
    file = output or Path(f"{story.config.job.name}.html")
    try:
        file.write_text(page(story), encoding="utf-8")
    except OSError as error:
        raise UserError(str(file), f"cannot be written ({error.strerror}); use another --output") from error
    Console(soft_wrap=True).print(Text(f"{story.name}: {file}"))
