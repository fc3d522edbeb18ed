"""A store that fails and stalls: one fault is outlived, an outage ends within its time, and says so."""

import time
from collections.abc import Callable, Iterator
from typing import get_args
from unittest.mock import patch

import pytest

from pretune_api.storage import Location
from pretune_trainer.errors import ObjectExistsError, StorageError
from pretune_trainer.storage import store as storage
from pretune_trainer.storage.client import Patience
from pretune_trainer.storage.store import Store
from support.faulty_proxy import Fault, Proxy, proxy
from support.s3 import BUCKET, S3Server

PATIENT = Patience(request_seconds=1.0)
"""Gives up a request that stalls, but not the store: on a busy machine any answer may take that long."""
HURRIED = Patience(connect_seconds=2, request_seconds=1.0, total_seconds=4)

USES: dict[str, Callable[[Store], object]] = {
    "put": lambda store: store.put("new", b"content"),
    "put in parts": lambda store: store.put("large", [b"x" * 60_000] * 9),
    "create": lambda store: store.create("claim", b"content"),
    "get": lambda store: store.get("there"),
    "get_range": lambda store: store.get_range("there", 1, 2),
    "size": lambda store: store.size("there"),
    "list": lambda store: store.list(),
    "folders": lambda store: store.folders(),
    "delete": lambda store: store.delete("there"),
}


@pytest.fixture(autouse=True)
def small_parts() -> Iterator[None]:
    with patch.object(storage, "PART", 65_536):
        yield


@pytest.fixture
def faulty(s3: S3Server) -> Iterator[Proxy]:
    with proxy(s3.endpoint) as running:
        yield running


@pytest.fixture
def behind(s3: S3Server, faulty: Proxy) -> Store:
    """A store that is reached through the proxy, with one object in it."""
    Store.open(folder := s3.new_folder()).put("there", b"content")
    return opened(folder.uri, faulty, PATIENT)


def opened(uri: str, faulty: Proxy, patience: Patience | None = None) -> Store:
    return Store.open(Location(uri=uri, endpoint=faulty.endpoint, region="us-east-1"), patience)


@pytest.mark.parametrize("fault", get_args(Fault))
@pytest.mark.parametrize("use", USES)
def test_one_fault_is_outlived(behind: Store, faulty: Proxy, use: str, fault: Fault) -> None:
    behind.guarantees_create  # noqa: B018  # asked before the faults begin
    faulty.faults = [fault]
    USES[use](behind)
    assert faulty.faults == []


@pytest.mark.parametrize("fault", ["503", "reset", "stall"])
def test_an_outage_ends_within_its_time_and_with_a_sentence(behind: Store, faulty: Proxy, fault: Fault) -> None:
    faulty.always = fault
    hurried, started = opened(behind.uri, faulty, HURRIED), time.monotonic()
    with pytest.raises(StorageError, match=rf"^s3://{BUCKET}/\w+/new: cannot write: the store"):
        hurried.put("new", b"content")
    assert len(faulty.requests) > 1, "it was tried more than once"
    assert time.monotonic() - started < 5 * (HURRIED.total_seconds + HURRIED.request_seconds)


@pytest.mark.parametrize("fault", ["reset", "lost answer", "broken answer", "slow body", "500"])
def test_a_fault_at_any_request_of_an_upload_is_outlived(behind: Store, faulty: Proxy, fault: Fault) -> None:
    patient = opened(behind.uri, faulty)  # nothing stalls here
    for before in range(11):
        faulty.faults = [*[None] * before, fault]
        file = patient.put("large", [bytes([before]) * 60_000] * 9)
        assert faulty.faults == [], "an upload of nine parts has eleven requests"
        assert patient.digest("large", 540_000) == file.sha256


def test_a_refusal_is_not_tried_again(
    behind: Store, faulty: Proxy, monkeypatch: pytest.MonkeyPatch, s3: S3Server
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    refused = opened(behind.uri, faulty)
    with pytest.raises(StorageError, match="the credentials are wrong"):
        refused.get("there")
    assert faulty.requests == ["GET"]


def test_a_store_that_goes_on_refusing_is_asked_with_pauses(behind: Store, faulty: Proxy) -> None:
    faulty.refuses = 400
    with pytest.raises(StorageError, match="there: cannot delete:"):
        opened(behind.uri, faulty, HURRIED).delete("there")
    assert 1 < len(faulty.requests) < 10


@pytest.mark.parametrize("fault", get_args(Fault))
def test_a_fault_is_not_taken_for_a_guarantee(behind: Store, faulty: Proxy, fault: Fault) -> None:
    faulty.faults = [fault, None, fault]
    assert not behind.guarantees_create, "rclone ignores If-None-Match"


@pytest.mark.parametrize("fault", ["reset", "lost answer", "500"])
def test_a_claim_whose_answer_is_lost_is_still_ours(behind: Store, faulty: Proxy, fault: Fault) -> None:
    behind.guarantees_create  # noqa: B018  # asked before the faults begin
    faulty.faults = [fault, fault]
    behind.create("claim", b"ours")
    with pytest.raises(ObjectExistsError):
        behind.create("claim", b"theirs")


def test_a_store_that_refuses_conditional_puts_guarantees_nothing_and_is_used_all_the_same(
    behind: Store, faulty: Proxy
) -> None:
    faulty.refuses_conditions = True
    hurried = opened(behind.uri, faulty, HURRIED)
    assert not hurried.guarantees_create
    hurried.create("claim", b"ours")
    with pytest.raises(ObjectExistsError):
        hurried.create("claim", b"theirs")
