"""A stand-in for rank.py where training is not the point. `python -m support.stand_in run FILE…` is `pretune` with it.

The job's name says what it does: `fails-…` ends with a user's mistake, `breaks-…` with one of ours, `waits-…` goes on
until it is asked to stop, `ignores-…` for ever; every other one finishes at once.
"""

import functools
import json
import sys
import threading
import time
from typing import Any

from pretune_api.manifest import Manifest
from pretune_api.run_config import RunConfig
from pretune_trainer.errors import NumericalError, StopRequestedError, UserError
from pretune_trainer.parallel import Ranks
from pretune_trainer.report import Committed, Evaluated, Reporter, Said, Start, Step
from pretune_trainer.result import RankResult
from pretune_trainer.storage.commit import commit
from pretune_trainer.storage.finished import FACTS_NAME, Facts
from pretune_trainer.storage.store import Store


def told(storage: dict[str, Any], name: str, namespace: str = "team-a", uid: str = "0b9c3a0e-3a55") -> RunConfig:
    """What a job is told to do, of which a stand-in looks at nothing but name and storage."""
    return RunConfig.model_validate(
        {
            "job": {"namespace": namespace, "kind": "PretrainJob", "name": name, "uid": uid},
            "objective": {"causalLM": {}},
            "method": {"full": {}},
            "model": {"architecture": {"type": "llama"}},
            "tokenizer": {"train": {}},
            "data": {"train": [{"uri": "file:///corpus"}]},
            "training": {"tokensPerStep": 64, "maxSteps": 10},
            "evaluation": {},
            "checkpoint": {},
            "storage": storage,
            "ranks": 1,
            "device": "cpu",
        }
    )


def obey(config: RunConfig, ranks: Ranks, reporter: Reporter) -> RankResult:
    """Count steps, then commit an artifact that holds its metrics and what it was made from."""
    verb = config.job.name.partition("-")[0]
    reporter.tell(Start(config.stage, 1, 0, 10, 1000, 1000, 8, 4, 10))
    for number in range(1, 11):
        reporter.tell(Step(number, 3.0, 1e-3, 0.5, 1000, 1000 * number, 0.01, 0.0))
    if verb == "fails":
        raise UserError("spec.data.train[0].uri", "row 7 is empty")
    if verb == "diverges":
        raise NumericalError("the loss is not finite at step 10")
    if verb == "breaks":
        raise KeyError("weight")
    if verb == "ignores":
        reporter.tell(Said("ignoring"))
        threading.Event().wait()
    if verb == "waits":
        reporter.tell(Said("waiting"))
        _wait_for_stop(ranks, reporter)
        reporter.tell(Committed(10, 0.0, 0.1, 1))
        raise StopRequestedError("stopped at step 10, which is committed")
    reporter.tell(Evaluated(10, {"loss": 2.0}, 0.1))
    return ranks.once(lambda: _publish(config))


def _wait_for_stop(ranks: Ranks, reporter: Reporter) -> None:
    while not any(ranks.gather(reporter.stop_requested())):
        time.sleep(0.01)


def _publish(config: RunConfig) -> RankResult:
    folder = Store.open(config.storage).child(config.job.folder).child("artifact/0001")
    origin = {"name": config.job.name, "model": config.model.model_dump(mode="json")}
    facts = Facts(metrics={"loss": 2.0}, step=10, tokens=10_000, parameters=1000, parent="none", data="none")
    contents = {"config.json": origin, FACTS_NAME: facts.model_dump(mode="json")}
    files = [folder.put(path, json.dumps(content).encode()) for path, content in contents.items()]
    manifest = Manifest(content="artifact", files=files)
    commit(folder, manifest, lambda: None)
    return RankResult(folder.uri, manifest.digest, {"loss": 2.0}, 10)


if __name__ == "__main__":
    from pretune_cli import run
    from pretune_cli.__main__ import main
    from support import stand_in  # by its name, under which Ray's workers find it too

    run.run = functools.partial(run.run, execute=stand_in.obey)
    sys.exit(main())
