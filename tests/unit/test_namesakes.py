"""Of other jobs of a name the one that committed last is told, unless the job itself has begun."""

import os
from pathlib import Path

from pretune_api.manifest import COMMITTED_NAME
from pretune_api.storage import Storage
from pretune_cli.namesakes import namesake
from pretune_trainer.storage.store import Store


def test_the_namesake_that_committed_last_is_told_until_the_job_has_begun(local: Store) -> None:
    jobs = {number: local.child(f"local/pretrainjob-general-{number * 8}") for number in "01234"}
    for number, when in {"1": 200, "2": 300, "3": 100}.items():
        committed = jobs[number].put(f"artifact/0001/{COMMITTED_NAME}", b"a digest")
        os.utime(Path(jobs[number].uri.removeprefix("file://"), committed.path), (when, when))
    jobs["4"].put("logs/attempt-0001/driver/00000001", b"failed")
    assert namesake(Storage(uri=local.uri), jobs["0"]) == jobs["2"]
    jobs["0"].put("logs/attempt-0001/driver/00000001", b"begun")
    assert namesake(Storage(uri=local.uri), jobs["0"]) is None
