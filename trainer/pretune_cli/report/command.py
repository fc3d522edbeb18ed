"""Write the report of a job into a file."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pretune_api.names import ExitCode
from pretune_cli.report.page import page
from pretune_cli.report.place import locate
from pretune_cli.report.story import read
from pretune_trainer.errors import UserError


def report(arguments: argparse.Namespace) -> int:
    """Write the report of `arguments.job`, and say where it is; the exit status.

    Raises:
        PretuneError: there is nothing to report, because of what its sentence says.
    """
    story = read(locate(arguments.job, arguments.namespace))
    file = arguments.output or Path(f"{story.config.job.name}.html")
    try:
        file.write_text(page(story), encoding="utf-8")
    except OSError as error:
        raise UserError(str(file), f"cannot be written ({error.strerror}); name another file by --output") from error
    Console(soft_wrap=True).print(Text(f"{story.name}: {file}"))
    return ExitCode.OK
