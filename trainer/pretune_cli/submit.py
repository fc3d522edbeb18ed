"""`pretune submit`: the jobs of files onto a cluster, checked before the first is sent."""

import argparse
from collections.abc import Sequence

from pretune_api.names import ExitCode
from pretune_cli.chain import parents_first
from pretune_cli.cluster import Cluster
from pretune_cli.documents import Document, InvalidFilesError, load
from pretune_cli.watching import follow
from pretune_operator.errors import UnfitError
from pretune_operator.stores import check_stores


def submit(arguments: argparse.Namespace) -> int:
    """Apply every job of `arguments.files`, and show them until they end if that is asked for; the exit status.

    Raises:
        PretuneError: a file is wrong, and nothing was sent; or the cluster refused a job.
    """
    documents = load(arguments.files, arguments.overrides)
    _check(documents)
    cluster = Cluster(arguments.namespace)
    jobs = []
    for document in documents:
        job = cluster.apply(document.job)
        print(f"{job.key}: submitted to namespace {job.ref.namespace}")
        jobs.append(job)
    return follow(cluster, jobs) if arguments.follow else ExitCode.OK


def _check(documents: Sequence[Document]) -> None:
    parents_first([document.job for document in documents])
    problems = [f"{document.file}: {document.name}: {error}" for document in documents if (error := _unfit(document))]
    if problems:
        raise InvalidFilesError("\n".join(problems))


def _unfit(document: Document) -> UnfitError | None:
    """What the operator would refuse: a folder of this machine, for one."""
    try:
        check_stores(document.job.spec)
    except UnfitError as error:
        return error
    return None
