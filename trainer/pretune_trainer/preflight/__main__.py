"""Preflight on a cluster: `python -m pretune_trainer.preflight RUN_CONFIG.json`.

Prints a line for each finding, and leaves all of them as JSON where Kubernetes looks for a container's last words.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pretune_api.names import FINDINGS_FILE_VARIABLE
from pretune_trainer.config_file import read_config
from pretune_trainer.errors import PretuneError
from pretune_trainer.preflight.findings import Finding, exit_code, message
from pretune_trainer.preflight.run import preflight

_TERMINATION_LOG: Final = Path("/dev/termination-log")
"""Where Kubernetes reads a container's message, unless its pod says otherwise."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a run config; returns the exit status, which is that of the first failure."""
    parser = argparse.ArgumentParser(prog="python -m pretune_trainer.preflight", description="Check a run config.")
    parser.add_argument("config", type=Path, metavar="RUN_CONFIG", help="the run config, a JSON document")
    findings = _findings(parser.parse_args(arguments).config)
    for finding in findings:
        print(finding)
    _leave(message(findings))
    return exit_code(findings)


def _findings(path: Path) -> list[Finding]:
    try:
        return preflight(read_config(path))
    except PretuneError as error:
        return [Finding.of("config", str(path), error)]


def _leave(text: str) -> None:
    """Write the findings into the file that the environment names, or that Kubernetes has made; else print them."""
    named = os.environ.get(FINDINGS_FILE_VARIABLE)
    if named is not None:
        Path(named).write_text(text)
    elif os.access(_TERMINATION_LOG, os.W_OK):
        _TERMINATION_LOG.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    sys.exit(main())
