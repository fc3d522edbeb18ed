"""Existing models that a run starts from: found, verified, and brought to this machine."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from pretune_api.manifest import COMMITTED_NAME, Manifest
from pretune_api.model import Hub
from pretune_api.run_config import Folder, Parent
from pretune_api.storage import Storage
from pretune_trainer.data.shelf import Shelf, local_path
from pretune_trainer.errors import DamagedError, HubError, MissingObjectError, UserError
from pretune_trainer.model.origin import Source
from pretune_trainer.parallel import Ranks
from pretune_trainer.storage.commit import manifest_of, read_commit
from pretune_trainer.storage.store import Store

_MERGED: Final = ("LORA", "IA3")
"""Updates that can be merged into their model, in peft's words."""
_WEIGHTS: Final = ".safetensors"
_OTHERS: Final = (".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".onnx_data", ".pt", ".pth")
"""Endings of weights in other forms, as hubs have beside these: nothing ever opens them."""


@dataclass(frozen=True)
class FoundParent:
    """A parent that can be loaded."""

    source: Source
    """Where transformers finds it."""
    digest: str
    """Names its content."""


Weights = Literal["brought", "verified", "unread"]
"""What is done with a parent's weights: brought to rank 0's machine, verified where they lie, or left alone."""


def find_parent(
    parent: Parent, storage: Storage, ranks: Ranks, where: str, weights: Weights = "brought"
) -> FoundParent:
    """Bring a parent to this machine, once for all its ranks; its weights to that of rank 0 alone, which makes the
    model. Collective.

    `storage` says how the parent's store is reached; `where` is the field that names the parent.

    Raises:
        UserError: there is nothing, only updates of a model, or other content than its digest says.
        HubError: the hub that it is on does not answer.
    """
    if parent.hub is not None:
        hub = parent.hub
        ranks.once(lambda: _reach(hub, where))
        name = f"{hub.repo}@{hub.revision}"
        return FoundParent(Source(hub.repo, hub.revision), f"sha256:{sha256(name.encode()).hexdigest()}")
    assert parent.folder is not None, "a parent is a folder or on a hub"
    folder = parent.folder
    store = Store.open(storage.model_copy(update={"uri": folder.uri}))
    manifest = ranks.once(lambda: _manifest(store, folder, where, weights))
    brought = weights == "brought" and ranks.is_first
    path = ranks.together(lambda: _here(store, manifest, where, weights=brought))[ranks.rank]
    _check_whole(path, folder.uri, where)
    return FoundParent(Source(str(path)), manifest.digest)


def _reach(hub: Hub, where: str) -> None:
    """Ask for what every model has, so that a hub that is away is told from a model that there is not."""
    try:
        hf_hub_download(hub.repo, "config.json", revision=hub.revision)
    except LocalEntryNotFoundError as error:
        raise HubError(f"{where}: the hub does not respond, and {hub.repo} is not cached on this machine") from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        advice = "check both, and the permissions of HF_TOKEN"
        raise UserError(where, f"the hub has no {hub.repo} at revision {hub.revision}; {advice}") from error
    except RemoteEntryNotFoundError:
        pass  # a tokenizer alone has none


def _check_whole(path: Path, uri: str, where: str) -> None:
    updates = path / "adapter_config.json"
    if updates.is_file() and not (path / "config.json").is_file():
        kind = json.loads(updates.read_text())["peft_type"]
        advice = "with merge: true" if kind in _MERGED else "with a method that yields a whole model, such as lora"
        raise UserError(where, f"{uri} holds {kind} updates alone; create it {advice}")


def _manifest(store: Store, folder: Folder, where: str, weights: Weights) -> Manifest:
    """What the folder consists of, or, of a folder that nobody has committed or pinned, what is read of it.

    All of it is verified here, unless that is done when it is brought to this machine: hundreds of gigabytes need not
    be read twice each time that a run starts, nor at all for a tokenizer.
    """
    try:
        committed = store.exists(COMMITTED_NAME)
        if committed and weights != "verified" and local_path(store) is None:
            manifest = read_commit(store)
        else:
            partly = weights == "unread" and (committed or folder.digest is None)
            manifest = manifest_of(store, _is_no_weight if partly else lambda _: True)
    except (MissingObjectError, DamagedError) as error:  # it stays so, however often it is tried
        raise UserError(where, str(error)) from error
    if folder.digest not in (None, manifest.digest):
        raise UserError(where, f"{store.uri} has digest {manifest.digest}, expected {folder.digest}")
    return manifest


def _is_no_weight(path: str) -> bool:
    return not path.endswith((_WEIGHTS, *_OTHERS))


def _here(store: Store, manifest: Manifest, where: str, *, weights: bool) -> Path:
    """The folder on this machine."""
    shelf = Shelf(store, manifest)
    names = [file.path for file in manifest.files]
    wanted = [name for name in names if _is_no_weight(name) or (weights and name.endswith(_WEIGHTS))] or names[:1]
    try:
        paths = [(shelf.path(name), name) for name in wanted]
    except (MissingObjectError, DamagedError) as error:
        raise UserError(where, str(error)) from error
    first, name = paths[0]
    return first.parents[name.count("/")]
