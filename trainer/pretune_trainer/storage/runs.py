"""Runs and their order: each start of the group of ranks claims the next ordinal, and the newest alone may commit."""

import re
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pretune_api.checkpoint import Origin, RunRecord
from pretune_trainer.errors import MissingObjectError, ObjectExistsError, SupersededError
from pretune_trainer.storage.store import Store

FOLDER: Final = "runs"
_NAME: Final = re.compile(r"^runs/(\d{4,})\.json$")


@dataclass
class Run:
    """One run's claim in a job's storage."""

    store: Store
    """The job's folder."""
    record: RunRecord
    """What it wrote there."""

    @property
    def ordinal(self) -> int:
        """Place of the run in the order of runs, from 1."""
        return self.record.ordinal

    def start_from(self, origin: Origin) -> None:
        """Write down, once, which commit the run starts from."""
        self.record = self.record.model_copy(update={"origin": origin})
        self.store.put(_path(self.ordinal), _bytes(self.record))

    def check(self) -> None:
        """Make sure that no newer run has started.

        Raises:
            SupersededError: one has.
        """
        newest = _newest(self.store)
        if newest > self.ordinal:
            raise SupersededError(
                f"{self.store.uri}: run {newest} has started after run {self.ordinal}, which stops here"
            )
        claimant = _claimant(self.store, self.ordinal)
        if claimant is None:
            raise SupersededError(
                f"{self.store.uri}: the record of run {self.ordinal} is gone; was the folder deleted?"
            )
        if claimant != self.record.nonce:
            raise SupersededError(
                f"{self.store.uri}: another run has claimed ordinal {self.ordinal} as well, so this one stops here"
            )


def claim_run(store: Store, say: Callable[[str], None]) -> Run:
    """Claim the next ordinal in a job's folder. Called on one rank; the other ranks get what it returns.

    With conditional puts no ordinal is claimed twice. Without them, of two that claim one at the same moment the
    later write stands: the other finds that out here, or at the latest when it checks before its first commit.
    `say` is told which of the two holds.
    """
    guarantee = _GUARANTEED if store.guarantees_create else _NOT_GUARANTEED
    while (run := _claim(store, _newest(store) + 1)) is None:
        pass
    say(f"run {run.ordinal} of {store.uri}: {guarantee}")
    return run


_GUARANTEED: Final = "the store guarantees that no other run has this ordinal"
_NOT_GUARANTEED: Final = (
    "the store ignores conditional puts, so a run that starts at the same moment is only noticed before the next commit"
)


def _claim(store: Store, ordinal: int) -> Run | None:
    """The run with that ordinal, or None when another was faster."""
    record = RunRecord(
        ordinal=ordinal, nonce=secrets.token_hex(16), host=socket.gethostname(), time=datetime.now(tz=UTC)
    )
    try:
        store.create(_path(ordinal), _bytes(record))
    except ObjectExistsError:
        return None
    return Run(store, record) if _claimant(store, ordinal) == record.nonce else None


def _claimant(store: Store, ordinal: int) -> str | None:
    """The nonce of whoever holds the ordinal."""
    try:
        return RunRecord.model_validate_json(store.get(_path(ordinal))).nonce
    except MissingObjectError:
        return None


def _newest(store: Store) -> int:
    found = [_NAME.match(object_.path) for object_ in store.list(FOLDER)]
    return max((int(match[1]) for match in found if match), default=0)


def _path(ordinal: int) -> str:
    return f"{FOLDER}/{ordinal:04d}.json"


def _bytes(record: RunRecord) -> bytes:
    return record.model_dump_json(exclude_none=True).encode()
