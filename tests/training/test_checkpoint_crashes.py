"""A run may die at any moment: what it had committed is read by the next one, and what it had not is removed."""

import subprocess
import sys
from pathlib import Path

from pretune_trainer.storage.commit import Commit
from pretune_trainer.storage.runs import claim_run
from pretune_trainer.storage.store import Store
from support.checkpoints import Trainer, steps
from support.crashing import Crash, CrashingStore, Plan


def interrupted(store: Store, plan: Plan) -> None:
    """A run that resumes from step 20, saves 30, and dies when the plan says so."""
    try:
        trainer = Trainer(CrashingStore.around(store, plan), keep=1)
        trainer.resumes_from()
        trainer.save(30, best_step=10)
    except Crash:
        assert plan.dead


def with_two_checkpoints(folder: Store) -> Store:
    trainer = Trainer(folder)
    trainer.save(10)
    trainer.save(20)
    return folder


def test_a_crash_at_any_operation_leaves_the_checkpoint_before_or_the_new_one(local: Store) -> None:
    whole = Plan()
    interrupted(with_two_checkpoints(local.child("whole")), whole)
    marker = whole.operations.index("create COMMITTED")
    assert {operation.split()[0] for operation in whole.operations} == {
        "create",
        "delete",
        "get",
        "list",
        "put",
        "size",
    }
    for at in range(len(whole.operations)):
        for after in (False, True):
            folder = with_two_checkpoints(local.child(f"{at}-{after}"))
            interrupted(folder, Plan(at=at, after=after))
            survivor = Trainer(folder, keep=1)
            assert survivor.resumes_from() == (30 if (at, after) >= (marker, True) else 20), whole.operations[at]
            assert survivor.listener.sentences == [], "nothing that is found is damaged"


_KILLED_WHILE_IT_WRITES = """
import os, sys
from pretune_api.storage import Location
from pretune_trainer.storage.store import PART, Store

class Tensors(list):
    def __iter__(self):
        yield from [bytes(PART)] * 3
        os._exit(9)

Store.open(Location(uri=sys.argv[1])).put("shard-00000.safetensors", Tensors())
"""


def test_the_beginning_of_a_file_whose_writer_was_killed_is_removed(local: Store, tmp_path: Path) -> None:
    killed = claim_run(local, lambda _: None)
    uri = local.child(Commit(killed.ordinal, 10).path).uri
    assert subprocess.run([sys.executable, "-c", _KILLED_WHILE_IT_WRITES, uri]).returncode == 9
    assert len([*tmp_path.rglob("shard-*")]) == 1
    Trainer(local).save(10)
    assert [path.parent.parent.name for path in tmp_path.rglob("shard-*")] == ["0002"]


def test_the_next_run_tidies_up_after_a_crash(local: Store) -> None:
    whole = Plan()
    interrupted(with_two_checkpoints(local.child("whole")), whole)
    for at in range(whole.operations.index("list runs"), len(whole.operations)):
        folder = with_two_checkpoints(local.child(f"{at}"))
        interrupted(folder, Plan(at=at))
        survivor = Trainer(folder, keep=1)
        survivor.resumes_from()
        survivor.save(40, best_step=10)
        assert steps(folder) == [40, 10]
        left = {object_.path.rsplit("/", 1)[0] for object_ in folder.list("checkpoints")}
        assert len(left) == 2, "what was never committed is gone"
