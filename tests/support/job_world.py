"""What the tests of the operator on a real API server say to it, and ask of it."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from e2e.cluster.process import wait_until
from support.kube_api import KubeApi
from support.specs import FINETUNE, PRETRAIN

Json = dict[str, Any]

PLURALS = {"PretrainJob": "pretrainjobs", "FinetuneJob": "finetunejobs"}


class World:
    """One namespace of the cluster."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    def apply(self, job: Json) -> Json:
        return self.api.create(self._jobs(job["kind"]), job)

    def job(self, job: Json) -> Json:
        return self.api.get(self.path(job))

    def change(self, job: Json, **spec: Any) -> None:
        self.api.merge(self.path(job), {"spec": spec})

    def delete(self, job: Json) -> None:
        self.api.delete(self.path(job))

    def path(self, job: Json) -> str:
        return f"{self._jobs(job['kind'])}/{job['metadata']['name']}"

    @property
    def pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def items(self, plural: str, version: str = "v1") -> list[Json]:
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        return self.api.items(f"{root}/namespaces/{self.namespace}/{plural}")

    def ray_jobs(self) -> list[Json]:
        return self.items("rayjobs", "ray.io/v1")

    def events(self) -> list[Json]:
        return self.items("events", "events.k8s.io/v1")

    def until(self, job: Json, holds: Callable[[Json], Any], what: str, seconds: float = 60) -> Json:
        """The job, once `holds` of its status."""
        found: Json = {}

        def look() -> bool:
            found.update(self.job(job))
            return bool(holds(found.get("status") or {}))

        try:
            wait_until(look, what, seconds=seconds)
        except TimeoutError as error:
            error.add_note(str(found.get("status")))
            raise
        return found

    def until_condition(self, job: Json, kind: str, status: str = "True", seconds: float = 60) -> Json:
        """The job, once one of its conditions has a status."""
        return self.until(job, lambda said: condition(said, kind) == status, f"{kind} is {status}", seconds)

    def _jobs(self, kind: str) -> str:
        return f"/apis/pretune.dev/v1alpha1/namespaces/{self.namespace}/{PLURALS[kind]}"


def condition(status: Json, kind: str) -> str:
    return next((found["status"] for found in status.get("conditions", ()) if found["type"] == kind), "")


def reason(status: Json, kind: str) -> str:
    return next((found["reason"] for found in status.get("conditions", ()) if found["type"] == kind), "")


def pretrain(name: str = "general", **spec: Any) -> Json:
    """A valid PretrainJob."""
    return _named(PRETRAIN, name, spec)


def finetune(name: str = "classify", **spec: Any) -> Json:
    """A valid FinetuneJob, that starts from the PretrainJob `general`."""
    return _named(FINETUNE, name, spec)


def _named(document: Json, name: str, spec: Json) -> Json:
    job = deepcopy(document)
    job["metadata"]["name"] = name
    job["spec"] |= {"failurePolicy": {"backoffSeconds": 0}} | spec
    return job
