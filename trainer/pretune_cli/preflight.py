"""`pretune preflight`: what can be known of jobs before they take GPUs: the checks that a cluster makes, made here."""

import argparse
import json
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pretune_api.jobs import Job
from pretune_api.run_config import Folder, RunConfig
from pretune_cli.chain import name_of, namespace_of, parents_first, placeholder
from pretune_cli.documents import load
from pretune_cli.identity import fingerprint, uid
from pretune_operator.plan import Inputs, plan, ranks_of
from pretune_operator.pools import device_of
from pretune_trainer.errors import PretuneError
from pretune_trainer.preflight.findings import Finding, exit_code
from pretune_trainer.preflight.run import preflight as check
from pretune_trainer.storage.finished import finished
from pretune_trainer.storage.store import Store

_NO_UID = "unknown0"
"""Stands for the identity of a job whose data cannot be listed."""


def preflight(arguments: argparse.Namespace) -> int:
    """Check the jobs of `arguments.files`, parents first, and print the findings; the exit status.

    Raises:
        PretuneError: the files are wrong.
    """
    jobs = parents_first([document.job for document in load(arguments.files, arguments.overrides)])
    findings: list[Finding] = []
    artifacts: dict[str, Folder] = {}
    for job in jobs:
        config = _plan(job, artifacts)
        found = check(config, frozenset(job.spec.parent_jobs()) - artifacts.keys())
        _print(job, found, as_json=arguments.json)
        findings += found
        if any(name_of(job) in other.spec.parent_jobs() for other in jobs):
            artifacts |= _artifact(job, config)
    return exit_code(findings)


def _plan(job: Job, artifacts: Mapping[str, Folder]) -> RunConfig:
    """The run config for a cluster; placeholders stand for artifacts that are not there yet."""
    compute = job.spec.compute
    known = {**{parent: placeholder(job, parent) for parent in job.spec.parent_jobs()}, **artifacts}
    return plan(job, Inputs(_uid(job, known), namespace_of(job), ranks_of(compute), device_of(compute), known))


def _uid(job: Job, artifacts: Mapping[str, Folder]) -> str:
    """The identity that `pretune run` gives the job, so that what it has finished is found."""
    try:
        return uid(fingerprint(job), job, artifacts)
    except PretuneError:  # the findings will say why
        return _NO_UID


def _artifact(job: Job, config: RunConfig) -> dict[str, Folder]:
    """The artifact that `pretune run` has made of a job, by its name; nothing if there is none."""
    try:
        done = finished(Store.open(config.storage).child(config.job.folder))
    except PretuneError:  # likewise
        return {}
    return {} if done is None else {name_of(job): Folder(uri=done.uri, digest=done.digest, job=name_of(job))}


def _print(job: Job, findings: Sequence[Finding], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"job": name_of(job), "findings": [finding.to_json() for finding in findings]}), flush=True)
        return
    table = Table("check", "", "place", "finding", title=name_of(job), title_justify="left")
    for finding in findings:
        table.add_row(finding.check, finding.state, Text(finding.place), Text(finding.sentence))
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    table.columns[2].overflow = table.columns[3].overflow = "fold"  # the end of a path says most
    Console().print(table)
