"""The command as a person gives it to a cluster."""

import os
import subprocess
import sys
from pathlib import Path


class Shell:
    """`pretune` in one namespace of the cluster of a kubeconfig."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        self._namespace = namespace

    def pretune(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pretune_cli", *map(str, arguments), "--namespace", self._namespace]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=240)
