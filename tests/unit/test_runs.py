"""Runs claim ordinals, and the newest alone may commit."""

from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import pytest

from pretune_api.checkpoint import Origin, RunRecord
from pretune_trainer.errors import SupersededError
from pretune_trainer.storage.runs import Run, claim_run
from pretune_trainer.storage.store import Store
from support.listening import Listener
from support.s3 import S3Server

ORIGIN = Origin(path="checkpoints/0001/step-00000100", digest=f"sha256:{'0' * 64}")


def claim(store: Store) -> Run:
    return claim_run(store, Listener())


def test_each_run_claims_the_next_ordinal(store: Store) -> None:
    assert [claim(store).ordinal for _ in range(3)] == [1, 2, 3]
    assert store.exists("runs/0003.json")


def test_a_run_that_sees_a_newer_one_stops(store: Store) -> None:
    old = claim(store)
    old.check()
    new = claim(store)
    with pytest.raises(SupersededError, match="run 2 has started after run 1, which stops here"):
        old.check()
    new.check()


def test_ordinals_are_ordered_as_numbers(local: Store) -> None:
    local.put("runs/9999.json", b"{}")
    assert claim(local).ordinal == 10_000
    assert claim(local).ordinal == 10_001


def test_what_a_run_starts_from_stands_in_its_record(store: Store) -> None:
    run = claim(store)
    run.start_from(ORIGIN)
    assert RunRecord.model_validate_json(store.get("runs/0001.json")).origin == ORIGIN
    run.check()


def test_of_runs_that_start_at_once_each_has_an_ordinal_of_its_own(local: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(claim, [local] * 8))
    assert sorted(run.ordinal for run in runs) == list(range(1, 9))


def test_people_are_told_which_guarantee_holds(local: Store, s3: S3Server) -> None:
    listener = Listener()
    claim_run(local, listener)
    claim_run(Store.open(s3.new_folder()), listener)
    assert "run 1 of file://" in listener.sentences[0]
    assert listener.sentences[0].endswith("the store guarantees that no other run has this ordinal")
    assert "the store ignores conditional puts" in listener.sentences[1]


def test_a_run_whose_claim_is_overwritten_at_once_claims_the_next_ordinal(
    local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rival, create = claim(local.child("rival")).record, Store.create

    def create_and_lose(store: Store, path: str, data: bytes) -> None:
        create(store, path, data)
        if path == "runs/0001.json":
            store.put(path, rival.model_dump_json().encode())

    monkeypatch.setattr(Store, "create", create_and_lose)
    assert claim(local).ordinal == 2


def test_without_conditional_puts_one_of_two_simultaneous_runs_stops_before_its_first_commit(s3: S3Server) -> None:
    store = Store.open(s3.new_folder())
    assert not store.guarantees_create
    first = claim(store)
    with (
        patch("pretune_trainer.storage.runs._newest", return_value=0),
        patch.object(Store, "exists", return_value=False),
    ):
        second = claim(store)  # it has looked before the first one wrote
    assert first.ordinal == second.ordinal
    with pytest.raises(SupersededError, match="another run has claimed ordinal 1 as well, so this one stops here"):
        first.check()
    second.check()


def test_a_run_whose_folder_was_deleted_says_so(local: Store) -> None:
    run = claim(local)
    local.delete("runs/0001.json")
    with pytest.raises(SupersededError, match="the record of run 1 is gone; was the folder deleted"):
        run.check()
