"""Checkpoints: each rank writes its shard in the background, rank 0 commits, any number of ranks reads them back."""

import time
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread

from torch import Tensor

from pretune_api.checkpoint import INDEX_NAME, STATE_NAME, CheckpointState, Origin, TensorIndex
from pretune_api.manifest import File, Manifest
from pretune_trainer.errors import DamagedError, MissingObjectError
from pretune_trainer.parallel import PATIENCE, Ranks
from pretune_trainer.report import Committed, Reporter, Said
from pretune_trainer.storage import shards
from pretune_trainer.storage.commit import (
    Commit,
    commit,
    commits,
    kept,
    read_commit,
    remove,
    remove_unfinished,
    understood,
    verify_file,
)
from pretune_trainer.storage.runs import Run
from pretune_trainer.storage.shards import Piece, Reading
from pretune_trainer.storage.staging import Staging
from pretune_trainer.storage.store import Store


@dataclass(frozen=True)
class FoundCheckpoint:
    """A committed checkpoint whose content has been verified, and read."""

    origin: Origin
    """It as the beginning of a run."""
    state: CheckpointState
    """What it holds beside tensors."""


class Checkpoints:
    """The checkpoints of a job, as one run on one rank writes and reads them. One is on its way at a time."""

    def __init__(self, job: Store, run: Run, ranks: Ranks, keep: int, reporter: Reporter) -> None:
        """Collective. Retention leaves the `keep` newest commits and the best one."""
        self._job = job
        self._run = run
        self._ranks = ranks
        self._channel = ranks.fork(PATIENCE)
        self._keep = keep
        self._reporter = reporter
        self._staging = Staging(ranks.device)
        self._saving: Future[None] | None = None
        self._saved_step: int | None = None
        self._parent: str | None = None

    def save(self, tensors: Mapping[str, Tensor], state: CheckpointState) -> None:
        """Begin to write a checkpoint of `state.step`: the tensors are copied here, and may change after `wait_staged`.

        `tensors` are the same on every rank, plain (then rank 0's are written) or sharded by FSDP2. Waits for the
        checkpoint before, if that is still on its way. A step that this run has saved already is not saved again.
        Collective.

        Raises:
            PretuneError: the checkpoint before could not be committed.
        """
        if state.step == self._saved_step:
            return
        started = time.perf_counter()
        self.wait()
        held = shards.pieces(tensors, is_first=self._ranks.is_first)
        copies = self._staging.copy(piece for piece in held if piece.writes)
        job = _Save(state, shards.index(held), copies, started, time.perf_counter() - started)
        self._saving = _in_background(lambda: self._write(job))
        self._saved_step = state.step

    def wait_staged(self) -> None:
        """Call right before the tensors change: what is changed from here on is not in the checkpoint."""
        self._staging.protect()

    def wait(self) -> None:
        """Wait until the checkpoint on its way, if any, is committed.

        Raises:
            SupersededError: a newer run has started.
            StorageError: the store has failed for longer than it is waited for.
        """
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    @property
    def has_failed(self) -> bool:
        """Whether the checkpoint on its way is known here to have failed; `wait` raises why, on every rank."""
        return self._saving is not None and self._saving.done() and self._saving.exception() is not None

    def latest(self, tensors: Mapping[str, Tensor]) -> FoundCheckpoint | None:
        """Fill `tensors` in place, each rank with its own rows, from the newest checkpoint that is committed and whole,
        which this run starts from; None where there is none: they are as they were.

        Every rank verifies a part of it. Of a damaged one people are told, and the one before is taken. Collective.

        Raises:
            UserError: it is the checkpoint of another model, or another version of Pretune has written it.
        """
        found = self._newest_whole(tensors)
        if found is not None:
            self._parent = found.origin.digest
            self._ranks.once(lambda: self._run.start_from(found.origin))
        return found

    def at(self, step: int, tensors: Mapping[str, Tensor]) -> FoundCheckpoint | None:
        """The same from the newest whole checkpoint of a step, such as the best one. Collective."""
        return self._newest_whole(tensors, step)

    def _newest_whole(self, tensors: Mapping[str, Tensor], step: int | None = None) -> FoundCheckpoint | None:
        """The newest whole one, of that step, when the tensors are filled from it.

        It looks anew after each that is not whole: an older run that is still at work may have removed it, in favour of
        a newer one.
        """
        self.wait()  # buffers are used again
        passed_over: set[Commit] = set()
        while (candidate := self._ranks.once(lambda: self._newest(step, passed_over))) is not None:
            try:
                found, reading = self._verified(candidate, tensors)
            except (DamagedError, MissingObjectError) as error:
                passed_over.add(candidate)
                self._reporter.tell(Said(f"{error}; falling back to the previous checkpoint"))
            else:
                self._ranks.together(reading.fill)
                return found
        return None

    def _newest(self, step: int | None, passed_over: Set[Commit]) -> Commit | None:
        every = (commit for commit in commits(self._job, "checkpoints") if step in (None, commit.step))
        return next((commit for commit in every if commit not in passed_over), None)

    def _verified(self, candidate: Commit, tensors: Mapping[str, Tensor]) -> tuple[FoundCheckpoint, Reading]:
        """A checkpoint that is whole, to fill the tensors from."""
        folder = self._job.child(candidate.path)
        manifest, saved, state = self._ranks.once(lambda: _documents(folder))
        held = shards.pieces(tensors, is_first=self._ranks.is_first)
        self._ranks.together(lambda: shards.require_same(saved, held, folder.uri))
        reading = Reading(folder, saved, held, self._staging.buffer)
        self._ranks.together(lambda: self._verify_shards(folder, manifest, reading))
        return FoundCheckpoint(Origin(path=candidate.path, digest=manifest.digest), state), reading

    def _verify_shards(self, folder: Store, manifest: Manifest, reading: Reading) -> None:
        """This rank's part of them: where as many ranks wrote the checkpoint, the one that it needs."""
        for file in manifest.files:
            shard = shards.shard_of(file.path)
            if shard is not None and shard % self._ranks.size == self._ranks.rank:
                verify_file(folder, file, reading.digest)

    def _write(self, save: "_Save") -> None:
        """In the background, on every rank."""
        place = Commit(self._run.ordinal, save.state.step)
        folder = self._job.child(place.path)
        written = self._channel.together(lambda: self._put_shard(folder, save.copies))
        files = [file for file in written if file is not None]
        size = self._channel.once(lambda: self._commit(folder, files, save))
        self._reporter.tell(Committed(save.state.step, save.blocked, time.perf_counter() - save.started, size))
        self._channel.once(lambda: self._retain(save.state.best_step))

    def _put_shard(self, folder: Store, copies: Sequence[Piece]) -> File | None:
        """Write what is this rank's to write; None where others hold all of it."""
        self._staging.arrived()
        filled = [piece for piece in copies if piece.rows.numel() > 0]
        if not filled:
            return None
        return folder.put(shards.shard_name(max(piece.shard for piece in filled)), shards.encode(filled))

    def _commit(self, folder: Store, files: Sequence[File], save: "_Save") -> int:
        """On rank 0: what the shards need beside them, the manifest, the marker. The commit's bytes."""
        documents = {STATE_NAME: save.state, INDEX_NAME: save.index}
        written = [folder.put(name, document.model_dump_json().encode()) for name, document in documents.items()]
        every = sorted([*files, *written], key=lambda file: file.path)
        commit(folder, Manifest(content="checkpoint", files=every, parent=self._parent), self._run.check)
        return sum(file.size for file in every)

    def _retain(self, best_step: int | None) -> None:
        """On rank 0: remove what need not be kept, and what older runs have left unfinished.

        Raises:
            SupersededError: a newer run has started, and may be reading what this one would remove.
        """
        self._run.check()
        every = commits(self._job, "checkpoints")
        for expired in sorted(set(every) - kept(every, self._keep, best_step)):
            remove(self._job.child(expired.path))
        remove_unfinished(self._job, "checkpoints", self._run.ordinal)


@dataclass(frozen=True)
class _Save:
    """What the background needs to write a checkpoint."""

    state: CheckpointState
    index: TensorIndex
    copies: list[Piece]
    started: float
    blocked: float
    """Seconds that training stood still."""


def _documents(folder: Store) -> tuple[Manifest, TensorIndex, CheckpointState]:
    """What a committed checkpoint has beside tensors, verified."""
    manifest = read_commit(folder)
    for file in manifest.files:
        if shards.shard_of(file.path) is None:
            verify_file(folder, file, folder.digest)
    saved = understood(TensorIndex, folder.get(INDEX_NAME), f"{folder.uri}/{INDEX_NAME}")
    return manifest, saved, understood(CheckpointState, folder.get(STATE_NAME), f"{folder.uri}/{STATE_NAME}")


def _in_background(do: Callable[[], None]) -> Future[None]:
    """Run `do` in a thread that does not keep the process alive: a run that fails leaves at once."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            do()
        except BaseException as error:  # it is raised where the future is waited for
            future.set_exception(error)
        else:
            future.set_result(None)

    Thread(target=run, name="checkpoint", daemon=True).start()
    return future
