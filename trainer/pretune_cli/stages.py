"""The stages of a chain, one after the other: what each starts from, what is done already, how each has ended."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Literal

from pretune_api.jobs import Job
from pretune_api.names import ExitCode
from pretune_api.run_config import Folder, RunConfig
from pretune_cli.chain import name_of, namespace_of
from pretune_cli.identity import fingerprint, uid
from pretune_cli.namesakes import namesake
from pretune_cli.streams import tell
from pretune_operator.plan import Inputs, plan
from pretune_trainer.data.storage_overlap import check_storage_overlap
from pretune_trainer.drive.group import Orders
from pretune_trainer.drive.log_sink import LogSink
from pretune_trainer.drive.logs import Loggers, in_storage
from pretune_trainer.drive.wire import Artifact, Ending
from pretune_trainer.report import Event
from pretune_trainer.storage.finished import finished
from pretune_trainer.storage.logs import DRIVER, attempts_of
from pretune_trainer.storage.store import Store


@dataclass
class Stages:
    """A chain on its way: yields the run configs that are left to do, and keeps how every stage has ended."""

    jobs: list[Job]
    """The jobs, parents first."""
    ranks: int
    """Number of ranks of each."""
    device: Literal["cpu", "cuda"]
    """What each rank computes on."""
    say: Callable[[str], None] = tell
    """Tells people something."""
    endings: list[tuple[Job, Ending]] = field(default_factory=list)
    """The stages that have ended, in order."""
    _fingerprints: list[str] = field(init=False)
    _artifacts: dict[str, Folder] = field(default_factory=dict)
    _sink: LogSink | None = None

    def __post_init__(self) -> None:
        """Look at every job's data before anything is started.

        Raises:
            UserError: a source has no file, or reaches into the storage.
            StorageError: a source cannot be listed.
        """
        for job in self.jobs:
            check_storage_overlap(job.spec.data, job.spec.storage, namespace_of(job))
        self._fingerprints = [fingerprint(job) for job in self.jobs]

    def orders(self) -> Orders:
        """Run configs to carry out, each answered with how it ended, up to the first that fails."""
        for job, own in zip(self.jobs, self._fingerprints, strict=True):
            config = self._plan(job, own)
            ending = _earlier(config)
            if ending is None:
                ending = yield from self._attempt(job, config)
            self.endings.append((job, ending))
            if ending.artifact is None:
                return
            self._keep(job, ending.artifact)

    def folders(self) -> Iterator[tuple[Job, Store]]:
        """The jobs and their folders in the storage, up to the first that is not finished when its turn comes."""
        for job, own in zip(self.jobs, self._fingerprints, strict=True):
            config = self._plan(job, own)
            yield job, Store.open(config.storage).child(config.job.folder)
            ending = _earlier(config)
            if ending is None or ending.artifact is None:
                return
            self._keep(job, ending.artifact)

    def hear(self, event: Event) -> None:
        """Add an event to the driver's log of the stage at work."""
        if self._sink is not None:
            self._sink.write([event])

    def _attempt(self, job: Job, config: RunConfig) -> Generator[RunConfig, Ending, Ending]:
        """One order, and the driver's log of it."""
        folder = Store.open(config.storage).child(config.job.folder)
        if other := namesake(config.storage, folder):
            self.say(f"{name_of(job)}: spec, data or parent are not those of {other.uri}; training starts anew")
        earlier = attempts_of(folder)
        config = config.model_copy(update={"attempt": max(earlier, default=0) + 1})
        with in_storage(Loggers())(config, DRIVER) as log:
            self._sink = LogSink(log.say)
            return log.ended((yield config))

    def _plan(self, job: Job, own: str) -> RunConfig:
        inputs = Inputs(
            uid=uid(own, job, self._artifacts),
            namespace=namespace_of(job),
            ranks=self.ranks,
            device=self.device,
            artifacts=self._artifacts,
        )
        return plan(job, inputs)

    def _keep(self, job: Job, artifact: Artifact) -> None:
        name = name_of(job)
        self._artifacts[name] = Folder(uri=artifact.uri, digest=artifact.digest, job=name)


def _earlier(config: RunConfig) -> Ending | None:
    """The ending of a job that an earlier run has finished; None if none has."""
    done = finished(Store.open(config.storage).child(config.job.folder))
    if done is None:
        return None
    return Ending(
        ExitCode.OK,
        "finished by an earlier run",
        artifact=Artifact(done.uri, done.digest),
        metrics=done.facts.metrics,
        step=done.facts.step,
        was_done=True,
    )
