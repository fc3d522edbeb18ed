"""Jobs on a cluster, as the user of a kubeconfig may see and make them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from pretune_api.jobs import Job
from pretune_api.names import API_VERSION, GROUP, VERSION, Cause
from pretune_api.run_config import JobRef
from pretune_api.status import Status
from pretune_api.storage import Storage
from pretune_trainer.errors import PretuneError, UserError

T = TypeVar("T")

MANAGER: Final = "pretune-cli"
"""Field manager of what is submitted; the operator has its own."""
_PLURALS: Final = {"PretrainJob": "pretrainjobs", "FinetuneJob": "finetunejobs"}
_APPLY: Final = "application/apply-patch+yaml"
_SECONDS: Final = 30
_ENDED: Final = {"Succeeded", "Failed"}


class ClusterError(PretuneError):
    """The API server refused, or cannot be reached."""

    cause = Cause.NETWORK


class MissingJobError(ClusterError):
    """There is no job of that name."""


@dataclass(frozen=True)
class SeenJob:
    """A job at one moment."""

    ref: JobRef
    """Which it is."""
    generation: int
    """Raised by every change of the spec."""
    storage: Storage
    """Where its folder lies."""
    status: Status
    """What the operator says; empty before its first word."""

    @property
    def key(self) -> str:
        """KIND/NAME, as other jobs refer to it."""
        return f"{self.ref.kind}/{self.ref.name}"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of its spec as it is."""
        return self.status.state in _ENDED and self.status.observed_generation >= self.generation


class Cluster:
    """The cluster, and the namespace in it, that the kubeconfig names."""

    def __init__(self, namespace: str | None = None) -> None:
        """`namespace` in place of the kubeconfig's.

        Raises:
            UserError: there is no kubeconfig, or no client to use it with.
        """
        try:
            from kubernetes import client
            from kubernetes.config import ConfigException, list_kube_config_contexts, load_kube_config
        except ImportError as error:
            raise UserError("kubernetes", "its client is not installed; pip install 'pretune[operator]'") from error
        try:
            _, context = list_kube_config_contexts()
            load_kube_config()
        except ConfigException as error:
            said = str(error).rstrip(".")
            raise UserError("kubeconfig", f"{said}; set KUBECONFIG to the kubeconfig of a cluster") from error
        self._given = namespace
        self.namespace: str = namespace or context["context"].get("namespace", "default")
        self._failure: type[Exception] = client.ApiException
        self._jobs: Any = client.CustomObjectsApi()

    def find(self, name: str) -> SeenJob:
        """The job NAME, or KIND/NAME where jobs of both kinds have that name.

        Raises:
            UserError: there is none, or there are two.
            ClusterError: the API server cannot be asked.
        """
        kind, _, bare = name.rpartition("/")
        kinds = [known for known in _PLURALS if kind.lower() in ("", known.lower())]
        found = [job for known in kinds for job in self._any(known, bare)]
        if len(found) > 1:
            raise UserError(name, f"there are {' and '.join(job.key for job in found)}; specify one of them")
        if not found:
            raise UserError(name, f"there is no such job in namespace {self.namespace}")
        return found[0]

    def get(self, kind: str, name: str, namespace: str | None = None) -> SeenJob:
        """One job, of another namespace than the usual one if that is given.

        Raises:
            MissingJobError: there is none.
            ClusterError: the API server cannot be asked.
        """
        return _seen(self._ask(self._jobs.get_namespaced_custom_object, kind, name, namespace))

    def apply(self, job: Job) -> SeenJob:
        """Make a job, or change it into what is given: server-side apply.

        Raises:
            ClusterError: the API server refuses; the sentence is its own.
        """
        body = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
        # Whoever else wrote a field, this is what is wanted now: as with a file that is applied again.
        how = {"field_manager": MANAGER, "field_validation": "Strict", "force": True, "_content_type": _APPLY}
        namespace = self._given or job.metadata.namespace or self.namespace
        body |= {"apiVersion": API_VERSION, "kind": job.kind}
        body["metadata"] |= {"namespace": namespace}
        call = self._jobs.patch_namespaced_custom_object
        self._ask(call, job.kind, job.metadata.name, namespace, body=body, **how)
        return self.get(job.kind, job.metadata.name, namespace)  # of what is new the client library returns nothing

    def lineage(self, job: SeenJob) -> list[str]:
        """The jobs that `job` was made from, nearest first."""
        found: list[str] = []
        waiting = [parent.job for parent in job.status.inputs]
        while waiting:
            name = waiting.pop(0)
            if name not in found:
                found.append(name)
                kind, _, bare = name.partition("/")
                parents = self._any(kind, bare, job.ref.namespace)
                waiting += [parent.job for seen in parents for parent in seen.status.inputs]
        return found

    def _any(self, kind: str, name: str, namespace: str | None = None) -> Iterator[SeenJob]:
        """The job, if there is one."""
        try:
            yield self.get(kind, name, namespace)
        except MissingJobError:
            return

    def _ask(self, call: Callable[..., T], kind: str, name: str, namespace: str | None, **more: Any) -> T:
        import urllib3

        where = namespace or self.namespace
        try:
            return call(GROUP, VERSION, where, _PLURALS[kind], name, _request_timeout=_SECONDS, **more)
        except self._failure as error:
            raise _refusal(error, f"{kind}/{name}") from error
        except urllib3.exceptions.HTTPError as error:
            raise ClusterError(f"the API server cannot be reached: {error}") from error


def _seen(raw: Any) -> SeenJob:
    meta = raw["metadata"]
    key = f"{raw['kind']}/{meta['name']}"
    try:
        ref = JobRef(namespace=meta["namespace"], kind=raw["kind"], name=meta["name"], uid=meta["uid"])
        status = Status.model_validate(raw.get("status") or {})
        return SeenJob(ref, meta["generation"], Storage.model_validate(raw["spec"]["storage"]), status)
    except ValidationError as error:
        raise UserError(key, "the cluster runs another version of Pretune; use that version of this command") from error


def _refusal(error: Any, key: str) -> ClusterError:
    if error.status == HTTPStatus.NOT_FOUND:
        return MissingJobError(f"{key}: there is no such job, or Pretune is not installed in this cluster")
    try:
        message = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        message = f"HTTP {error.status}: {error.reason}"
    return ClusterError(f"{key}: {message}")
