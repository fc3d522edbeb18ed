"""What a model was made from, and that from what, as far as the storage can be read."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from pretune_api.run_config import Parent, RunConfig
from pretune_api.storage import Location, Storage
from pretune_cli.report.history import read_config
from pretune_trainer.errors import PretuneError
from pretune_trainer.storage.finished import Facts, finished
from pretune_trainer.storage.store import Store

_ARTIFACT: Final = re.compile(r"^(.+)/artifact/\d{4,}$")


@dataclass(frozen=True)
class Ancestor:
    """A model that another one was made from."""

    name: str
    """KIND/NAME of the job that made it, or where it is."""
    gave: str
    """What was taken from it."""
    digest: str = ""
    """Digest of the artifact, or the revision on a hub."""
    stage: str = ""
    """What it had learnt; empty where its job's storage cannot be read."""
    facts: Facts | None = None
    """What its artifact says of itself."""
    parents: tuple["Ancestor", ...] = ()
    """What it was made from in turn."""


def ancestors(config: RunConfig) -> tuple[Ancestor, ...]:
    """What a job's model and tokenizer come from."""
    return tuple(_ancestor(parent, gave, config.storage) for gave, parent in _parents(config))


def _parents(config: RunConfig) -> Iterator[tuple[str, Parent]]:
    weights = config.model.parent
    tokenizer = config.tokenizer.parent if config.tokenizer else None
    if weights is not None:
        yield "weights and tokenizer" if tokenizer == weights else "weights", weights
    if tokenizer is not None and tokenizer != weights:
        yield "tokenizer", tokenizer


def _ancestor(parent: Parent, gave: str, storage: Storage) -> Ancestor:
    if parent.hub is not None:
        return Ancestor(parent.hub.repo, gave, parent.hub.revision)
    folder = parent.folder
    assert folder is not None, "a parent is a folder or on a hub"
    unread = Ancestor(folder.job or folder.uri, gave, folder.digest or "")
    made = _ARTIFACT.match(folder.uri)
    if made is None:
        return unread
    try:
        job = Store.open(Location(uri=made[1], endpoint=storage.endpoint, region=storage.region))
        config, done = read_config(job), finished(job)
    except (PretuneError, ValidationError):  # it may have been moved, or belong to others
        return unread
    name = f"{config.job.kind}/{config.job.name}"
    return Ancestor(name, gave, unread.digest, config.stage, done.facts if done else None, ancestors(config))
