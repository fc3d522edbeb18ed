"""The operator as a process of its own, against a real API server: started in a moment, asked to end, or killed."""

import multiprocessing
import os
import signal
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest.mock import patch

from e2e.cluster.process import wait_until
from support.ports import free_port

_CONTEXT = multiprocessing.get_context("forkserver")
# Importing takes seconds: once, and every operator is forked from there.
_CONTEXT.set_forkserver_preload(["pretune_operator.handlers", "pretune_operator.health", "kubernetes.client"])

SETTINGS = """\
preflight: {enabled: false}
images: {pretrain: "pretune.test/pretrain:1", finetune: "pretune.test/finetune:1"}
pools: {gpu: {gpusPerNode: 8, resources: {cpu: "1", memory: 1Gi, ephemeralStorage: 1Gi}}}
defaultPool: gpu
"""


class OperatorProcess:
    """A running operator."""

    def __init__(
        self, folder: Path, kubeconfig: Path, *arguments: str, dies_after: int | None = None, configured: str = SETTINGS
    ) -> None:
        """With `dies_after`, it kills itself once it has made as many calls that change something."""
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.log = folder / "operator.log"
        settings = folder / "settings.yaml"
        settings.write_text(configured)
        command = ["--config", str(settings), "--port", str(self.port), *arguments]
        self._process: BaseProcess = _CONTEXT.Process(
            target=_operate, args=(command, str(kubeconfig), str(self.log), dies_after), daemon=True
        )
        self._process.start()

    def __enter__(self) -> "OperatorProcess":
        wait_until(self.ready, f"the operator is ready (see {self.log})")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def calls(self) -> int:
        """Calls so far that changed something."""
        return int(self._counter().read_text() or 0) if self._counter().exists() else 0

    def ready(self) -> bool:
        assert self._process.is_alive(), self.log.read_text()
        return self.says("/readyz")[0] == 200

    def says(self, path: str) -> tuple[int, str]:
        """What it answers on its port; 0 if it does not."""
        return self.answers(self.port, path)

    @staticmethod
    def answers(port: int, path: str) -> tuple[int, str]:
        """What an operator answers on `port`; 0 if none does."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def stop(self) -> int | None:
        """Ask it to end; its exit code."""
        self._process.terminate()
        self._process.join(20)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        return self._process.exitcode

    def killed(self) -> bool:
        """Whether it has killed itself."""
        self._process.join(0)
        return self._process.exitcode == -signal.SIGKILL

    def _counter(self) -> Path:
        return self.log.with_name("calls")


def _operate(command: list[str], kubeconfig: str, log: str, dies_after: int | None) -> None:
    import kubernetes.config as config
    from kubernetes.config import kube_config

    from pretune_operator.__main__ import main

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(output, stream)
    # The client library has read $KUBECONFIG when it was imported, before this process was forked.
    config.KUBE_CONFIG_DEFAULT_LOCATION = kube_config.KUBE_CONFIG_DEFAULT_LOCATION = kubeconfig
    _count_calls(Path(log).with_name("calls"), dies_after)
    with suppress(KeyboardInterrupt):
        sys.exit(main(command))


def _count_calls(counter: Path, dies_after: int | None) -> None:
    """Puts a counter, and death, around the client's calls that change something."""
    import threading

    from pretune_operator.cluster.client import Client, Json

    send, lock = Client._send, threading.Lock()

    def counted(self: Client, method: str, url: str, body: Json | None, accept: str = "application/json") -> bytes:
        if method == "GET":
            return send(self, method, url, body, accept)
        with lock:  # one at a time, so that the n-th is the n-th
            number = int(counter.read_text()) + 1 if counter.exists() else 1
            counter.write_text(str(number))
            try:
                return send(self, method, url, body)
            finally:
                if number == dies_after:
                    os.kill(os.getpid(), signal.SIGKILL)

    patch.object(Client, "_send", counted).start()
