"""What the pages tell people to run works: here where it can, else as far as can be known without a cluster."""

import json
import re
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from itertools import pairwise
from pathlib import Path

import generated
import pytest

from pretune_api.problems import parse
from pretune_cli.__main__ import main
from pretune_operator.cluster.kinds import JOBS
from support.pages import PAGES, ROOT, commands, name_of
from support.specs import PRETRAIN, changed

Words = list[str]

RUN_HERE = {"validate", "render"}
"""Commands of pretune that need neither a cluster nor time."""
PARSED = {
    "run": "trains: tests/cli/test_run.py runs small jobs",
    "report": "needs a job that was trained: tests/cli/test_report.py makes one",
    "submit": "needs a cluster: tests/operator/api/test_submitting.py has an API server",
    "status": "needs a cluster: tests/operator/api/test_submitting.py has an API server",
    "logs": "needs a job that was trained: tests/cli/test_logs.py makes one",
}
"""Commands of pretune of which the arguments alone are checked, and why."""
READING, CHANGING = {"describe", "explain", "get", "logs", "wait"}, {"annotate", "apply", "create", "delete", "label"}
KUBECTL = READING | CHANGING | {"patch", "scale"}

SHOWN = [
    pytest.param(words, id=f"{name_of(page)}: {' '.join(words)}"[:100]) for page in PAGES for words in commands(page)
]


@pytest.mark.parametrize("words", SHOWN)
def test_a_command_that_a_page_shows_is_one(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each program asserts of its own arguments what can be known of them, in `CHECKS`."""
    monkeypatch.chdir(ROOT)
    program, *arguments = words
    CHECKS[program.removeprefix(".venv/bin/")](arguments)


def pretune(arguments: Words) -> None:
    """Run it; or let it refuse, of all its arguments, the one alone that is not the page's."""
    if arguments[0] in RUN_HERE:
        assert main(arguments) == 0
        return
    assert arguments[0] in PARSED
    with redirect_stderr(StringIO()) as said, pytest.raises(SystemExit):
        main([*arguments, "--not-of-the-page"])
    assert said.getvalue().endswith("unrecognized arguments: --not-of-the-page\n")


def make(arguments: Words) -> None:
    """Targets take minutes, or machines; that they are there is what can be known."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(arguments) <= set(targets)


def kubectl(arguments: Words) -> None:
    """A verb that there is, files that are there, and changes that the API takes."""
    options = dict(pairwise(arguments))
    assert set(arguments) & KUBECTL
    if "-f" in options:
        assert Path(options["-f"]).is_file()
    if "--patch" in options:
        patch = json.loads(options["--patch"])
        parse(changed(PRETRAIN, {f"spec.{name}": value for name, value in patch["spec"].items()}))


def helm(arguments: Words) -> None:
    """The chart, and values of it. That it renders what it should needs Helm: tests/e2e/test_chart.py."""
    options = dict(pairwise(arguments))
    verb, release, *rest = arguments
    assert verb in {"install", "upgrade", "uninstall", "test"}
    assert release == "pretune"
    if verb in {"install", "upgrade"}:
        assert Path(rest[0]) == generated.CHART.relative_to(ROOT)
    if "--set" in options:
        has_value(generated.default_values(), options["--set"].partition("=")[0].split("."))


def has_value(values: object, path: Words) -> None:
    for name in path:
        assert isinstance(values, dict)
        values = values[name]


def velero(arguments: Words) -> None:
    """Jobs come back with their status, and nothing does of what the operator makes anew."""
    options = dict(pairwise(arguments))
    for option in ("--include-resources", "--status-include-resources"):
        assert set(options[option].split(",")) == {f"{kind.plural}.{kind.group}" for kind in JOBS.values()}


def docker(arguments: Words) -> None:
    """A recipe that is there, and a stage of it."""
    options = dict(pairwise(arguments))
    assert arguments[0] == "build"
    assert arguments[-1] == "."
    stages = re.findall(r"^FROM .* AS (.+)$", Path(options["--file"]).read_text(), re.MULTILINE)
    assert options.get("--target", stages[0]) in stages


CHECKS: dict[str, Callable[[Words], None]] = {
    "docker": docker,
    "helm": helm,
    "kubectl": kubectl,
    "make": make,
    "pretune": pretune,
    "velero": velero,
}
"""What is known of a command, by its first word."""
