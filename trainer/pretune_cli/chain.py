"""Jobs that hang together by model.from and tokenizer.from: which comes first."""

from collections.abc import Iterator, Sequence

from pretune_api.fields import suggestion
from pretune_api.jobs import Job
from pretune_api.names import LOCAL_NAMESPACE
from pretune_api.run_config import Folder
from pretune_trainer.errors import UserError


def order(jobs: Sequence[Job], missing: str = "add the file that defines it") -> list[Job]:
    """The jobs, each after those that it takes its model or tokenizer from; otherwise in the order given.

    `missing` is what to do about a job that is not there.

    Raises:
        UserError: a job refers to one that is not there, or to itself through others.
    """
    by_name = {name_of(job): job for job in jobs}
    for job in jobs:
        for path, parent in _references(job):
            if parent not in by_name:
                others = [name for name in by_name if name != name_of(job)]
                advice = suggestion(others, parent) if others else missing
                raise UserError(f"{name_of(job)} {path}", f"{parent} is not defined in any of the files; {advice}")
    return parents_first(jobs)


def parents_first(jobs: Sequence[Job]) -> list[Job]:
    """As `order`, by the references among `jobs` only; others may lie in a cluster.

    Raises:
        UserError: a job refers to itself through others.
    """
    by_name = {name_of(job): job for job in jobs}
    ordered: dict[str, Job] = {}

    def visit(name: str, descendants: tuple[str, ...]) -> None:
        if name in descendants:
            circle = " <- ".join((*descendants[descendants.index(name) :], name))
            raise UserError(f"{name} spec", f"takes its model or tokenizer from itself: {circle}")
        for _, parent in _references(by_name[name]):
            if parent in by_name and parent not in ordered:
                visit(parent, (*descendants, name))
        ordered[name] = by_name[name]

    for name in by_name:
        if name not in ordered:
            visit(name, ())
    return list(ordered.values())


def _references(job: Job) -> Iterator[tuple[str, str]]:
    """Paths of the fields that refer to jobs, with KIND/NAME of the job referred to."""
    sources = {"spec.model.from": job.spec.model.from_}
    if job.spec.tokenizer is not None:
        sources["spec.tokenizer.from"] = job.spec.tokenizer.from_
    for path, source in sources.items():
        if source is not None and source.job is not None:
            yield path, source.job


def name_of(job: Job) -> str:
    """KIND/NAME of a job."""
    return f"{job.kind}/{job.metadata.name}"


def namespace_of(job: Job) -> str:
    """The namespace that a job names, or the one that stands for it on one machine."""
    return job.metadata.namespace or LOCAL_NAMESPACE


def placeholder(job: Job, parent: str) -> Folder:
    """Stands for the artifact of `parent`, KIND/NAME, from which `job` starts, where there is none yet."""
    return Folder(uri=f"{job.spec.storage.uri}/artifact-of/{parent}", job=parent)
