"""The chart as an administrator uses it: rendered, installed, upgraded, tested, uninstalled."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ruamel.yaml import YAML

from e2e.cluster.binaries import programs, version
from e2e.world import Document

CHART: Final = Path(__file__).parents[2] / "charts/pretune"
NAME: Final = "pretune"
"""Of releases, and of what the chart makes for them."""


@dataclass(frozen=True)
class Release:
    """A release of the chart in a namespace, whether it is installed or not."""

    namespace: str
    kubeconfig: Path
    name: str = NAME
    waits: bool = True
    """Until what is made is ready, and what is deleted gone: never, where there is an API server alone."""

    def install(self, values: Document) -> str:
        """`helm upgrade --install`, with `values` alone; what it prints, its notes at the end."""
        return self._helm("upgrade", "--install", self.name, str(CHART), values=values)

    def test(self) -> str:
        """`helm test`."""
        return self._helm("test", self.name)

    def uninstall(self) -> str:
        """`helm uninstall`, if it is installed."""
        return self._helm("uninstall", self.name, "--ignore-not-found")

    def _helm(self, command: str, *arguments: str, values: Document | None = None) -> str:
        where = ("--namespace", self.namespace, "--kubeconfig", str(self.kubeconfig), "--timeout", "3m")
        waiting = ("--wait",) if self.waits and command != "test" else ()
        given = ("--values", "-") if values is not None else ()
        return helm(command, *arguments, *where, *waiting, *given, values=values)


def rendered(
    values: Document, namespace: str = "pretune-system", name: str = NAME, chart: Path = CHART
) -> list[Document]:
    """The manifests that the chart makes of `values`, its tests among them. Raises as `helm` does."""
    # Helm that was not built by its own Makefile takes itself to speak to a Kubernetes of years ago.
    kubernetes = ("--kube-version", version("kubernetes"))
    text = helm("template", name, str(chart), "-n", namespace, *kubernetes, "--values", "-", values=values)
    return [document for document in YAML(typ="safe", pure=True).load_all(text) if document]


def helm(*arguments: str, values: Document | None = None) -> str:
    """What helm prints; `values` are its standard input. Raises CalledProcessError with its `stderr`."""
    text = json.dumps(values) if values is not None else None
    # No settings of the person who runs the tests: a repository, a namespace, a cluster of theirs.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
    command: list[str | Path] = [programs("helm") / "helm", *arguments]
    try:
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True, env=environment).stdout
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr)
        raise
