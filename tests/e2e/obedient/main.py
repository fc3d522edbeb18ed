"""The driver of a trainer that only obeys: everything of a cluster but training, within seconds.

Driver, board and endings are the real ones. In place of ranks a thread carries out $ORDERS, words with spaces between:
    steps=N           do N steps, a twentieth of a second each; if asked to stop, commit and stop
    memory=MIB        take so much memory, and keep it
    wait              go on until asked to stop; then commit and stop
    ignore            go on for ever
    fail=CLASS        fail with an error of pretune_trainer.errors, such as StorageDeniedError
    exit=CODE         end the driver at once, without a word
After the last order the job is finished, with an artifact that no library loads.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable

from pretune_api.manifest import Manifest
from pretune_api.run_config import RunConfig
from pretune_trainer import driver, errors  # type: ignore[attr-defined]  # what main.py is called in the image
from pretune_trainer.drive.group import in_process
from pretune_trainer.parallel import Ranks
from pretune_trainer.report import Committed, Reporter, Start, Step
from pretune_trainer.result import RankResult
from pretune_trainer.storage.commit import commit
from pretune_trainer.storage.finished import FACTS_NAME, Facts
from pretune_trainer.storage.runs import claim_run
from pretune_trainer.storage.store import Store

_MIB = 1 << 20
_STEP_SECONDS = 0.05
_kept: list[bytearray] = []


class Obedience:
    """One run config, carried out as $ORDERS says."""

    def __init__(self, config: RunConfig, reporter: Reporter) -> None:
        self._reporter = reporter
        self._store = Store.open(config.storage).child(config.job.folder)
        self._run = claim_run(self._store, print).ordinal
        self._step = 0
        reporter.tell(Start(config.stage, self._run, 0, config.training.max_steps or 1000, 1000, 1000, 8, 4, 10))

    def carry_out(self, orders: str) -> RankResult:
        """All orders, one after the other; raises the error that one asks for."""
        do: dict[str, Callable[[str], object]] = {
            "steps": lambda count: self._steps(int(count)),
            "memory": lambda size: _kept.append(bytearray(os.urandom(_MIB)) * int(size)),
            "wait": lambda _: self._steps(sys.maxsize),
            "ignore": lambda _: threading.Event().wait(),
            "fail": _fail,
            "exit": lambda code: os._exit(int(code)),
        }
        for order in orders.split():
            verb, _, value = order.partition("=")
            do[verb](value)
        return self._publish()

    def _steps(self, count: int) -> None:
        for _ in range(count):
            time.sleep(_STEP_SECONDS)
            self._step += 1
            self._reporter.tell(Step(self._step, 3.0, 1e-3, 0.5, 1000, 1000 * self._step, _STEP_SECONDS, 0.0))
            if self._reporter.stop_requested():
                self._reporter.tell(Committed(self._step, 0.0, 0.1, 1))
                raise errors.StopRequestedError(f"stopped at step {self._step}, which is committed")

    def _publish(self) -> RankResult:
        folder = self._store.child(f"artifact/{self._run:04}")
        facts = Facts(metrics={"loss": 3.0}, step=self._step, tokens=1, parameters=1000, parent="none", data="none")
        contents = {"config.json": {}, FACTS_NAME: facts.model_dump(mode="json")}
        files = [folder.put(path, json.dumps(content).encode()) for path, content in contents.items()]
        manifest = Manifest(content="artifact", files=files)
        commit(folder, manifest, lambda: None)
        return RankResult(folder.uri, manifest.digest, facts.metrics, self._step)


def _fail(name: str) -> None:
    error: type[errors.PretuneError] = getattr(errors, name)
    where = ["spec.data.train[0].uri"] if issubclass(error, errors.UserError) else []
    raise error(*where, "as ordered")


def _obey(config: RunConfig, ranks: Ranks, reporter: Reporter) -> RankResult:
    return Obedience(config, reporter).carry_out(os.environ.get("ORDERS", ""))


if __name__ == "__main__":
    os._exit(driver.main(make_group=lambda desk, _: in_process(desk, "cpu", _obey)))
