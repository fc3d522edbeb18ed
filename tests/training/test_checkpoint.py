"""Checkpoints of one rank: what is committed is read, whole or not at all, whatever happens in between."""

import random
import threading
from collections.abc import Callable
from hashlib import sha256
from typing import Any, get_args

import pytest
import torch

from pretune_api.checkpoint import RunRecord
from pretune_api.manifest import Manifest
from pretune_trainer.errors import StorageError, SupersededError, UserError
from pretune_trainer.report import Committed
from pretune_trainer.storage import shards
from pretune_trainer.storage.client import Patience
from pretune_trainer.storage.commit import Commit, commit, read_commit, verify_file
from pretune_trainer.storage.runs import claim_run
from pretune_trainer.storage.store import Store
from support.checkpoints import Tensors, Trainer, state, steps, tensors, zeros
from support.faulty_proxy import Fault, proxy
from support.s3 import S3Server


def test_what_is_saved_is_loaded_bit_for_bit(store: Store) -> None:
    Trainer(store).save(10)
    assert Trainer(store).resumes_from() == 10


def test_there_is_nothing_to_resume_from_at_first(local: Store) -> None:
    assert Trainer(local).resumes_from() is None


def test_what_changes_after_staging_is_not_in_the_checkpoint(local: Store) -> None:
    trainer = Trainer(local)
    values = tensors(10)
    trainer.checkpoints.save(values, state(10))
    trainer.checkpoints.wait_staged()
    for tensor in values.values():
        tensor.zero_()
    trainer.checkpoints.wait()
    assert Trainer(local).resumes_from() == 10


def test_tensors_larger_than_a_part_are_read_part_by_part(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    Trainer(local).save(10)
    monkeypatch.setattr(shards, "PART", 16)
    assert Trainer(local).resumes_from() == 10


def test_training_goes_on_while_a_checkpoint_is_on_its_way(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    arrives, put = threading.Event(), Store.put
    monkeypatch.setattr(Store, "put", lambda *arguments: arrives.wait(60) and put(*arguments))
    trainer = Trainer(local)
    trainer.checkpoints.save(tensors(10), state(10))
    trainer.checkpoints.wait_staged()
    assert not trainer.checkpoints.has_failed
    assert steps(local) == [], "all calls have returned, and nothing is in storage yet"
    arrives.set()
    trainer.checkpoints.wait()
    assert steps(local) == [10]


def test_a_checkpoint_waits_for_the_one_before(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    arrives, put = threading.Event(), Store.put
    monkeypatch.setattr(Store, "put", lambda *arguments: arrives.wait() and put(*arguments))
    trainer = Trainer(local)
    trainer.checkpoints.save(tensors(10), state(10))
    threading.Timer(0.2, arrives.set).start()
    trainer.checkpoints.save(tensors(20), state(20))
    assert 10 in steps(local), "its buffers are needed for the next one"
    trainer.checkpoints.wait()
    local.delete(f"{Commit(1, 20).path}/COMMITTED")
    assert Trainer(local).resumes_from() == 10


def test_shards_are_files_that_safetensors_reads(local: Store) -> None:
    from safetensors.torch import load

    Trainer(local).save(10)
    content = local.get("checkpoints/0001/step-00000010/shard-00000.safetensors")
    read = load(content)
    assert {"model.empty", *read} == tensors(10).keys()
    assert all(torch.equal(read[name], tensors(10)[name]) for name in read)


def test_people_are_told_of_each_commit(local: Store) -> None:
    trainer = Trainer(local)
    trainer.save(10)
    trainer.save(20)
    assert trainer.listener.committed == [10, 20]
    for told in trainer.listener.events:
        assert isinstance(told, Committed)
        assert 0 < told.blocked_seconds < told.seconds < 60
        assert told.size == sum(file.size for file in read_commit(local.child(Commit(1, told.step).path)).files)


def test_a_step_is_saved_once(local: Store) -> None:
    trainer = Trainer(local)
    trainer.save(10)
    trainer.save(10)
    assert trainer.listener.committed == [10]


def test_the_newest_and_the_best_are_kept(local: Store) -> None:
    trainer = Trainer(local, keep=2)
    for step in (10, 20, 30, 40, 50):
        trainer.save(step, best_step=20 if step >= 20 else 10)
    assert steps(local) == [50, 40, 20]
    assert trainer.checkpoints.at(20, zeros()) is not None
    assert trainer.checkpoints.at(30, zeros()) is None
    assert {path.path.split("/")[2] for path in local.list("checkpoints")} == {
        "step-00000050",
        "step-00000040",
        "step-00000020",
    }


def test_a_best_checkpoint_of_an_older_run_is_kept(local: Store) -> None:
    Trainer(local).save(10, best_step=10)
    newer = Trainer(local, keep=1)
    for step in (20, 30):
        newer.save(step, best_step=10)
    assert steps(local) == [30, 10]


def test_a_commit_of_an_older_run_is_never_read(local: Store) -> None:
    old = Trainer(local)
    old.save(100)
    new = Trainer(local)
    new.save(50)
    with pytest.raises(SupersededError, match="run 2 has started after run 1"):
        old.save(900)
    assert Trainer(local).resumes_from() == 50


def test_a_zombie_that_commits_past_the_fence_is_not_read(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = Trainer(local), Trainer(local)
    new.save(50)
    monkeypatch.setattr(old.run, "check", lambda: None)  # it looked just before the new run started
    old.save(900)
    assert Trainer(local).resumes_from() == 50


def test_what_an_older_run_removes_while_it_is_read_costs_no_progress(
    local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Trainer(local, keep=1)
    old.save(100)
    monkeypatch.setattr(old.run, "check", lambda: None)  # it looked just before the new run started
    new = Trainer(local, keep=1)

    def verify_slowly(*arguments: Any) -> None:
        old.save(200)
        verify_file(*arguments)

    monkeypatch.setattr("pretune_trainer.storage.checkpoint.verify_file", verify_slowly)
    assert new.resumes_from() == 200


def test_a_run_that_is_superseded_while_it_commits_removes_nothing(
    local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Trainer(local, keep=1)
    old.save(100)

    def look_too_early() -> None:
        monkeypatch.undo()
        claim_run(local, lambda _: None)

    monkeypatch.setattr(old.run, "check", look_too_early)
    with pytest.raises(SupersededError):
        old.save(200)
    assert steps(local) == [200, 100]


def test_manifest_and_record_name_what_a_run_started_from(local: Store) -> None:
    Trainer(local).save(10)
    second = Trainer(local)
    second.resumes_from()
    second.save(20)
    digest = read_commit(local.child("checkpoints/0001/step-00000010")).digest
    assert read_commit(local.child("checkpoints/0002/step-00000020")).parent == digest
    record = RunRecord.model_validate_json(local.get("runs/0002.json"))
    assert record.origin is not None
    assert (record.origin.path, record.origin.digest) == ("checkpoints/0001/step-00000010", digest)


def _truncate(content: bytes) -> bytes:
    return content[:-1]


def _flip(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize("damage", [_truncate, _flip, None], ids=["truncated", "flipped", "removed"])
@pytest.mark.parametrize("name", ["shard-00000.safetensors", "state.json", "index.json", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over_and_people_are_told(
    local: Store, name: str, damage: Callable[[bytes], bytes] | None
) -> None:
    trainer = Trainer(local)
    trainer.save(10)
    trainer.save(20)
    path = f"checkpoints/0001/step-00000020/{name}"
    if damage is None:
        local.delete(path)
    else:
        local.put(path, damage(local.get(path)))
    resumed = Trainer(local)
    assert resumed.resumes_from() == 10
    (said,) = resumed.listener.sentences
    assert said.startswith(f"{local.uri}/checkpoints/0001/step-00000020 is damaged: {name} ")
    assert said.endswith("; falling back to the previous checkpoint")


@pytest.mark.parametrize("chunk", [64, 2**20])
def test_whatever_bit_of_a_shard_has_changed_it_is_passed_over(
    local: Store, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr("pretune_trainer.storage.store.PART", chunk)
    trainer = Trainer(local)
    trainer.save(10)
    trainer.save(20)
    path = "checkpoints/0001/step-00000020/shard-00000.safetensors"
    content = local.get(path)
    for place in range(0, len(content), 17):
        changed = content[place] ^ (1 << place % 8)
        local.put(path, content[:place] + bytes([changed]) + content[place + 1 :])
        assert Trainer(local).resumes_from() == 10


def test_a_shard_that_comes_in_parts_is_read_as_it_was_written(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    Trainer(local).save(10)
    content = local.get("checkpoints/0001/step-00000010/shard-00000.safetensors")
    header = content.index(b"}}") + len(b"}}")  # only what comes with all of it is kept as it is verified
    for part in range(header, len(content), 7):
        monkeypatch.setattr("pretune_trainer.storage.store.PART", part)
        assert Trainer(local).resumes_from() == 10


def test_where_no_checkpoint_is_whole_the_weights_are_as_they_were(local: Store) -> None:
    Trainer(local).save(10)
    path = "checkpoints/0001/step-00000010/shard-00000.safetensors"
    local.put(path, _flip(local.get(path)))
    assert Trainer(local).resumes_from() is None


@pytest.mark.parametrize("name", ["state.json", "index.json", "manifest.json"])
def test_what_a_newer_version_has_written_is_not_passed_over(local: Store, name: str) -> None:
    trainer = Trainer(local)
    trainer.save(10)
    folder = local.child("checkpoints/0001/step-00000020")
    names = ("shard-00000.safetensors", "state.json", "index.json")
    contents = {each: local.get(f"checkpoints/0001/step-00000010/{each}") for each in names}
    newer = b'{"version":2}'
    files = [folder.put(each, newer if each == name else content) for each, content in contents.items()]
    commit(folder, Manifest(content="checkpoint", files=files))
    if name == "manifest.json":
        folder.put(name, newer)
        folder.put("COMMITTED", f"sha256:{sha256(newer).hexdigest()}".encode())
    with pytest.raises(UserError, match=f"{name}: was written by another version of Pretune"):
        Trainer(local).resumes_from()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model.weight": torch.zeros(5, 4)}, r"'model.weight' is F32 \[5, 3\] in the checkpoint, F32 \[5, 4\]"),
        ({"model.norm": torch.zeros(3)}, r"'model.norm' is BF16 \[3\] in the checkpoint, F32 \[3\] in the model"),
        ({"model.head": torch.zeros(3)}, "only the model has 'model.head'"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(local: Store, change: Tensors, sentence: str) -> None:
    Trainer(local).save(10)
    with pytest.raises(UserError, match=f"{sentence}.*this is the checkpoint of another model"):
        Trainer(local).checkpoints.latest(zeros() | change)


def test_a_failure_in_the_background_is_raised_where_it_is_waited_for(local: Store) -> None:
    trainer = Trainer(local)
    local.put("checkpoints", b"a file in the place of the folder")
    trainer.checkpoints.save(tensors(10), state(10))
    with pytest.raises(StorageError, match="there is a file where a folder is needed"):
        trainer.checkpoints.wait()
    local.delete("checkpoints")
    trainer.save(20)
    assert steps(local) == [20]


def test_checkpoints_go_through_a_store_that_fails_and_stalls(s3: S3Server) -> None:
    patience = Patience(connect_seconds=1, request_seconds=0.3, total_seconds=60)
    draw = random.Random(1)
    with proxy(s3.endpoint) as faulty:
        location = s3.new_folder().model_copy(update={"endpoint": faulty.endpoint})
        faulty.faults = [draw.choice((*[None] * 10, *get_args(Fault))) for _ in range(40)]
        trainer = Trainer(Store.open(location, patience), keep=1)
        trainer.save(10)
        trainer.save(20)
        assert Trainer(Store.open(location, patience)).resumes_from() == 20
        assert faulty.faults == [], "all of them have happened"
