"""What more than one test needs. Nothing heavy is imported before a test asks for it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from pretune_api.storage import Location

if TYPE_CHECKING:
    from pretune_trainer.storage.store import Store
    from support.azure import AzureAccount
    from support.google import GoogleStore
    from support.s3 import S3Server

# The same examples on every run, however slow the machine: a failure is a change of ours, never luck.
settings.register_profile("fixed", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fixed")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator["S3Server"]:
    """A real S3 endpoint; the AWS_* variables hold its credentials while it is up."""
    from support.s3 import serve

    with serve(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator["AzureAccount"]:
    """An empty stand-in for an account of Azure; the AZURE_* variables hold its credentials while it is up."""
    from support.azure import azure_account

    with azure_account() as account:
        for name, value in account.variables.items():
            monkeypatch.setenv(name, value)
        yield account


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator["GoogleStore"]:
    """An empty stand-in for Google Cloud Storage; a variable leads to it while it is up."""
    from support.google import google_store

    with google_store(tmp_path) as store:
        for name, value in store.variables.items():
            monkeypatch.setenv(name, value)
        yield store


@pytest.fixture
def local(tmp_path: Path) -> "Store":
    """An empty folder of this machine, as a store."""
    from pretune_trainer.storage.store import Store

    return Store.open(Location(uri=(tmp_path / "store").as_uri()))


@pytest.fixture(params=["file", "s3", "azure", "google"])
def store(request: pytest.FixtureRequest) -> "Store":
    """An empty folder in a store: one of this machine, of a real S3 endpoint, of Azure and of Google."""
    from pretune_trainer.storage.store import Store

    if request.param == "file":
        local: Store = request.getfixturevalue("local")
        return local
    return Store.open(request.getfixturevalue(request.param).new_folder())


@pytest.fixture
def said() -> Callable[[str], None]:
    """Takes sentences, and keeps them in `said.sentences`."""
    from support.listening import Listener

    return Listener()
