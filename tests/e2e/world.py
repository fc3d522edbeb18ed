"""A namespace of a real cluster, as a test sees it: what people apply, and what they and the operator can read."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from typing import Any
from urllib.parse import urlsplit

from ruamel.yaml import YAML

from e2e.cluster.access import Api
from pretune_api.names import PROGRESS_PORT

Document = dict[str, Any]

POLL_SECONDS = 0.5


class NotYetError(AssertionError):
    """Something that a test waits for did not come."""


@dataclass(frozen=True)
class Namespace:
    """One namespace, which enforces Pod Security "restricted"."""

    name: str
    cluster: Api

    def kubectl(self, *arguments: str, document: str | None = None) -> str:
        """What `kubectl -n` prints."""
        return self.cluster.kubectl("--namespace", self.name, *arguments, document=document)

    def apply(self, *documents: Document, options: tuple[str, ...] = ()) -> str:
        """`kubectl apply` of the documents."""
        return self.kubectl("apply", *options, "-f", "-", document=as_yaml(documents))

    def get(self, *arguments: str) -> Any:
        """The objects that `kubectl get` finds."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def items(self, *arguments: str) -> list[Document]:
        """What a list of `kubectl get` holds."""
        found: list[Document] = self.get(*arguments)["items"]
        return found

    def job(self, reference: str) -> Document:
        """The job KIND/NAME."""
        found: Document = self.get(reference)
        return found

    def status(self, reference: str) -> Document:
        """The status of the job KIND/NAME; empty before the operator has seen it."""
        status: Document = self.job(reference).get("status", {})
        return status

    def patch(self, reference: str, spec: Document) -> None:
        """Change fields of a job's spec."""
        self.kubectl("patch", reference, "--type=merge", "-p", json.dumps({"spec": spec}))

    def delete(self, *arguments: str) -> None:
        """`kubectl delete`."""
        self.kubectl("delete", *arguments)

    def evict(self, pod: str) -> None:
        """What `kubectl drain` does to each pod of a node."""
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": self.name}}
        path = f"/api/v1/namespaces/{self.name}/pods/{pod}/eviction"
        self.cluster.kubectl("create", "--raw", path, "-f", "-", document=json.dumps(eviction))

    def pods(self, reference: str, node_type: str) -> list[Document]:
        """The head or worker pods of the job KIND/NAME that live."""
        _, _, name = reference.partition("/")
        selector = f"pretune.dev/name={name},ray.io/node-type={node_type}"
        return [pod for pod in self.items("pods", "-l", selector) if "deletionTimestamp" not in pod["metadata"]]

    def progress(self, head: Document) -> Document:
        """What a job's head pod itself tells; through the API server, since this machine may not reach pods.

        Raises:
            CalledProcessError: it tells nothing yet.
        """
        path = f"/api/v1/namespaces/{self.name}/pods/{head['metadata']['name']}:{PROGRESS_PORT}/proxy/progress"
        told: Document = json.loads(self.kubectl("get", "--raw", path))
        return told

    def ray_jobs(self, reference: str) -> list[Document]:
        """The RayJobs of the job KIND/NAME, oldest attempt first."""
        _, _, name = reference.partition("/")
        found = self.items("rayjobs", "-l", f"pretune.dev/name={name}")
        return sorted(found, key=lambda ray_job: int(ray_job["metadata"]["labels"]["pretune.dev/attempt"]))

    def wait(self, reference: str, holds: Callable[[Document], bool], what: str, seconds: float) -> Document:
        """The status of the job KIND/NAME, once `holds`.

        Raises:
            NotYetError: it does not within `seconds`; tells what stood there.
        """
        end = time.monotonic() + seconds
        while not holds(status := self.status(reference)):
            if time.monotonic() > end:
                raise NotYetError(f"{reference}: {what}: not within {seconds:.0f} s\n{self._scene(reference, status)}")
            time.sleep(POLL_SECONDS)
        return status

    def wait_for_state(self, reference: str, state: str, seconds: float) -> Document:
        """The status of the job KIND/NAME once it is in `state`; fails at once where it has finished otherwise."""
        finished = {"Succeeded", "Failed"}
        status = self.wait(
            reference, lambda status: status.get("state") in {state, *finished}, f"to be {state}", seconds
        )
        if status["state"] != state:
            raise NotYetError(f"{reference} is {status['state']}, not {state}\n{self._scene(reference, status)}")
        return status

    def wait_for_step(self, reference: str, step: int, seconds: float) -> Document:
        """The status of the job KIND/NAME once its current attempt is seen to have done `step` steps."""

        def reached(status: Document) -> bool:
            # Until the ranks of a new attempt speak, what the last one said stands.
            at_work = status.get("state") == "Running" and status["attempts"][-1]["runs"] > 0
            return at_work and status.get("progress", {}).get("step", 0) >= step

        return self.wait(reference, reached, f"to reach step {step}", seconds)

    def _scene(self, reference: str, status: Document) -> str:
        """What a person would look at."""
        pods = self.kubectl("get", "pods,rayjobs,rayclusters", "-o", "wide")
        events = self.kubectl("get", "events", "--sort-by=.lastTimestamp")
        return "\n".join((json.dumps(status, indent=1), pods, *events.splitlines()[-30:], *self._logs(reference)))

    def _logs(self, reference: str) -> Iterator[str]:
        for node_type in ("head", "worker"):
            for pod in self.pods(reference, node_type):
                name = pod["metadata"]["name"]
                try:
                    yield f"--- {name}\n{self.kubectl('logs', name, '--tail=40')}"
                except subprocess.CalledProcessError as error:
                    yield f"--- {name}: {error.stderr}"


@contextmanager
def namespace(cluster: Api, name: str) -> Iterator[Namespace]:
    """A new namespace, deleted with all that is in it."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    made = Namespace(name, cluster)
    made.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    try:
        yield made
    finally:
        cluster.kubectl("delete", "namespace", name, "--timeout=180s")


def secret(name: str, credentials: dict[str, str]) -> Document:
    """A Secret with these credentials."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": credentials}


def pod(name: str, container: Document, **spec: object) -> Document:
    """A pod of one container that may do nothing but run; `spec` is what else its spec holds."""
    denied = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    allowed = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    # A pod that asks for nothing waits seconds for milliseconds where jobs keep all cores busy.
    asked = {"requests": {"cpu": "50m", "memory": "64Mi"}}
    containers = [{"name": name, "resources": asked, **container, "securityContext": denied}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"securityContext": allowed, "containers": containers, **spec},
    }


def service(name: str, port: int, server: str) -> tuple[Document, Document]:
    """A name and a port in the cluster for a server outside of it, which has the address http://<IP>:<port>."""
    at = urlsplit(server)
    ports = [{"name": name, "port": port, "targetPort": at.port}]
    named = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": ports}}
    slice_of_it = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [at.hostname], "conditions": {"ready": True}}],
        "ports": [{"name": name, "port": at.port}],
    }
    return named, slice_of_it


def as_yaml(documents: tuple[Document, ...]) -> str:
    """The documents as one YAML text."""
    stream = StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.dump_all(documents, stream)
    return stream.getvalue()


def condition(status: Document, kind: str) -> Document:
    """A job's condition; empty where there is none."""
    return next((found for found in status.get("conditions", []) if found["type"] == kind), {})


def is_true(status: Document, kind: str) -> bool:
    """Whether a job's condition holds."""
    return condition(status, kind).get("status") == "True"
