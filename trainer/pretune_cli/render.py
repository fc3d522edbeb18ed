"""`pretune render`: what the operator would make of a job, up to its first attempt, as YAML for people and kubectl."""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from pretune_api.names import ExitCode
from pretune_api.run_config import Folder
from pretune_cli.chain import placeholder
from pretune_cli.documents import Document, InvalidFilesError, load
from pretune_operator.errors import UnfitError
from pretune_operator.job import JobView
from pretune_operator.naming import Manifest
from pretune_operator.plan import Inputs, plan, ranks_of
from pretune_operator.policies.preflight import is_wanted
from pretune_operator.pools import device_of
from pretune_operator.preflight_job import preflight_job
from pretune_operator.rayjob import manifests
from pretune_operator.settings import Images, Pool, Settings, SettingsError
from pretune_trainer.errors import UserError

_NAMESPACE: Final = "default"
"""Namespace of jobs that name none, as kubectl's is unless it was told otherwise."""

_UID: Final = "00000000-0000-0000-0000-000000000000"
_DEFAULT_POOL: Final = "default"
_INPUT: Final = re.compile(r"((?:PretrainJob|FinetuneJob)/[^=/]+)=(.+?)(?:@(sha256:[0-9a-f]{64}))?")


def render(arguments: argparse.Namespace) -> int:
    """Print the manifests of every job; the exit status.

    Raises:
        UserError: an input is none.
        InvalidFilesError: a file, or the operator's configuration, is wrong, or a job does not fit it.
    """
    given = dict(map(_input, arguments.inputs))
    documents = load(arguments.files, arguments.overrides)
    settings = _settings(arguments.settings, documents)
    made = [list(_manifests(document, given, settings)) for document in documents]
    for document, parts in zip(documents, made, strict=True):
        _print(document, _unknown(document, given), parts)
    return ExitCode.OK


def _settings(file: Path | None, documents: Sequence[Document]) -> Settings:
    """The operator's configuration in `file`, or one that has every pool that the jobs name."""
    if file is None:
        pools = {document.job.spec.compute.pool or _DEFAULT_POOL: Pool() for document in documents}
        images = Images(pretrain="pretune/pretrain:latest", finetune="pretune/finetune:latest")
        return Settings(images=images, pools={_DEFAULT_POOL: Pool()} | pools, default_pool=_DEFAULT_POOL)
    try:
        return Settings.read(file)
    except SettingsError as error:
        raise InvalidFilesError(str(error)) from error


def _input(text: str) -> tuple[str, Folder]:
    found = _INPUT.fullmatch(text)
    try:
        if found is not None:
            job, uri, digest = found.groups()
            return job, Folder(uri=uri, digest=digest, job=job)
    except ValidationError:
        pass
    raise UserError(f"--input {text}", "is not an artifact; write KIND/NAME=URI, or KIND/NAME=URI@sha256:…")


def _unknown(document: Document, given: Mapping[str, Folder]) -> list[str]:
    """Parents of a job, KIND/NAME, whose artifacts are not given."""
    return sorted(set(document.job.spec.parent_jobs()) - set(given))


def _manifests(document: Document, given: Mapping[str, Folder], settings: Settings) -> Iterator[Manifest]:
    """In the order in which they are made."""
    job = document.job
    namespace = job.metadata.namespace or _NAMESPACE
    view = JobView(job, uid=_UID, namespace=namespace, generation=1, labels=job.metadata.labels)
    compute = job.spec.compute
    placeholders = {parent: placeholder(job, parent) for parent in _unknown(document, given)}
    inputs = Inputs(_UID, namespace, ranks_of(compute), device_of(compute), {**given, **placeholders})
    config = plan(job, inputs)
    try:
        made = manifests(view, config, 1, settings)
    except UnfitError as error:
        raise InvalidFilesError(f"{document.file}: {document.name}: {error}") from error
    if is_wanted(job.spec, settings.preflight):
        yield preflight_job(view, config, 1, settings)
    yield from made.in_order


def _print(document: Document, unknown: Sequence[str], made: Sequence[Manifest]) -> None:
    yaml = YAML()
    yaml.width = 120
    yaml.representer.ignore_aliases = lambda _: True
    print(f"# {document.name} of {document.file}. The operator adds owner and UID once the job is applied.")
    for parent in unknown:
        print(f"# The artifact of {parent} is unknown: a placeholder is used; set it with --input {parent}=URI@DIGEST.")
    for manifest in made:
        print("---")
        yaml.dump(_readable(manifest), sys.stdout)


def _readable(made: Manifest) -> Manifest:
    """A manifest without its owner, whom no cluster knows: its garbage collector would delete it."""
    manifest = deepcopy(made)
    del manifest["metadata"]["ownerReferences"]
    if "data" in manifest:
        manifest["data"] = {name: LiteralScalarString(text) for name, text in manifest["data"].items()}
    return manifest
