"""A KubeRay that runs nothing: it makes RayClusters and pods that do not run, and writes status as the real one does.

What their driver would say at /progress is served on loopback addresses, which the head pods have as their IPs. As no
garbage collector runs beside a bare API server, it also ends what is deleted in the foreground.
"""

import itertools
import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pretune_api.names import PROGRESS_PORT
from support.kube_api import Json, KubeApi, RefusedError

RAY = "/apis/ray.io/v1"
_LABEL = "pretune.dev"
DIGEST = f"sha256:{'0' * 64}"


class Play(Enum):
    """What an attempt's driver does."""

    SUCCEEDS = "Succeeded"
    FAILS = "Failed"
    RUNS = "Running"
    SILENT = "Silent"
    """It runs, and its head answers nobody."""


def succeeds(job: str, attempt: int) -> Play:
    return Play.SUCCEEDS


class FakeKubeRay:
    """Plays the RayJobs of a cluster, from `start` to `stop`."""

    def __init__(self, api: KubeApi, plays: Callable[[str, int], Play] = succeeds) -> None:
        """`plays` says what the driver does in an attempt of a job."""
        self.plays = plays
        self.made: Counter[tuple[str, str]] = Counter()
        """How often a RayJob was made, by namespace and name."""
        self._api = api
        self._lock = threading.RLock()
        self._addresses = (f"127.{random.randint(64, 254)}.{n >> 8 & 255}.{n & 255}" for n in itertools.count(1))
        self._heads: dict[str, Head] = {}
        self._threads = [
            threading.Thread(target=self._follow, args=("rayjobs", self._see), daemon=True),
            threading.Thread(target=self._follow, args=("rayclusters", self._collect), daemon=True),
        ]

    def __enter__(self) -> "FakeKubeRay":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._api.close()
        for thread in self._threads:
            thread.join()
        for head in self._heads.values():
            head.close()

    def replay(self, ray_job: Json) -> None:
        """Look at a RayJob again: what its driver does has changed."""
        self._step(self._api.get(_path(ray_job, RAY, "rayjobs")))

    def _follow(self, plural: str, see: Callable[[Json], None]) -> None:
        listed = self._api.get(f"{RAY}/{plural}")
        for found in listed["items"]:
            see({"type": "ADDED", "object": found | {"apiVersion": "ray.io/v1", "kind": listed["kind"][:-4]}})
        for event in self._api.watch(f"{RAY}/{plural}", listed["metadata"]["resourceVersion"]):
            with suppress(RefusedError):  # it is gone, or has changed: another event is on its way
                see(event)

    def _see(self, event: Json) -> None:
        meta = event["object"]["metadata"]
        self.made[meta["namespace"], meta["name"]] += event["type"] == "ADDED"
        if event["type"] != "DELETED":
            self._step(event["object"])

    def _collect(self, event: Json) -> None:
        """Ends a Ray cluster that is deleted in the foreground."""
        if event["type"] != "DELETED" and "deletionTimestamp" in event["object"]["metadata"]:
            self._remove_pods(event["object"]["metadata"])
            self._api.merge(_path(event["object"], RAY, "rayclusters"), {"metadata": {"finalizers": None}})

    def _step(self, ray_job: Json) -> None:
        with self._lock:
            state = ray_job.get("status", {}).get("jobDeploymentStatus", "")
            if "deletionTimestamp" in ray_job["metadata"]:
                self._end(ray_job)
            elif ray_job["spec"].get("suspend") and state != "Suspended":
                self._remove_cluster(ray_job)
                self._say(ray_job, jobDeploymentStatus="Suspended", jobStatus="", rayClusterName="")
            elif state in ("", "Suspended") and not ray_job["spec"].get("suspend"):
                name = f"{ray_job['metadata']['name']}-{random.randbytes(3).hex()[:5]}"
                self._say(ray_job, jobDeploymentStatus="Initializing", rayClusterName=name, jobId=name)
            elif state == "Initializing":
                self._start(ray_job)
            elif state == "Running":
                self._play(ray_job)

    def _start(self, ray_job: Json) -> None:
        cluster = self._make_cluster(ray_job)
        template = ray_job["spec"]["rayClusterSpec"]
        head = self._heads[cluster["metadata"]["name"]] = self._head()
        self._make_pod(cluster, "head", template["headGroupSpec"]["template"], head.address, 0)
        for group in template["workerGroupSpecs"]:
            for number in range(group["replicas"]):
                self._make_pod(cluster, "worker", group["template"], "127.0.0.1", number)
        self._say(ray_job, jobDeploymentStatus="Running", jobStatus="RUNNING")

    def _head(self) -> "Head":
        return Head(next(self._addresses))

    def _play(self, ray_job: Json) -> None:
        labels = ray_job["metadata"]["labels"]
        play = self.plays(labels[f"{_LABEL}/name"], int(labels[f"{_LABEL}/attempt"]))
        head = self._heads.get(ray_job["status"]["rayClusterName"])
        if head is None:  # its pods are gone, or another one played it
            return
        head.document = None if play is Play.SILENT else document(play, labels)
        if play is Play.SUCCEEDS:
            self._say(ray_job, jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")
        if play is Play.FAILS:
            self._say(ray_job, jobDeploymentStatus="Failed", jobStatus="FAILED", reason="AppFailed", message="exit 1")

    def _make_cluster(self, ray_job: Json) -> Json:
        meta, name = ray_job["metadata"], ray_job["status"]["rayClusterName"]
        body = {
            "apiVersion": "ray.io/v1",
            "kind": "RayCluster",
            "metadata": {
                "name": name,
                "labels": meta["labels"] | {"ray.io/originated-from-cr-name": meta["name"]},
                "ownerReferences": [_owner(ray_job)],
            },
            "spec": ray_job["spec"]["rayClusterSpec"],
        }
        return self._api.create(f"{RAY}/namespaces/{meta['namespace']}/rayclusters", body)

    def _make_pod(self, cluster: Json, kind: str, template: Json, address: str, number: int) -> None:
        meta = cluster["metadata"]
        labels = {"ray.io/cluster": meta["name"], "ray.io/node-type": kind}
        body = {
            "metadata": {
                "name": f"{meta['name']}-{kind}-{number}",
                "labels": meta["labels"] | template["metadata"].get("labels", {}) | labels,
                "ownerReferences": [_owner(cluster)],
            },
            "spec": template["spec"],
        }
        pod = self._api.create(f"/api/v1/namespaces/{meta['namespace']}/pods", body)
        ready = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady", "PodScheduled")]
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": ready}
        self._api.merge(f"{_path(pod, '/api/v1', 'pods')}/status", {"status": status})

    def _say(self, ray_job: Json, **status: Any) -> None:
        version = {"metadata": {"resourceVersion": ray_job["metadata"]["resourceVersion"]}}
        self._api.merge(f"{_path(ray_job, RAY, 'rayjobs')}/status", version | {"status": status})

    def _end(self, ray_job: Json) -> None:
        self._remove_cluster(ray_job)
        if ray_job["metadata"].get("finalizers"):
            self._api.merge(_path(ray_job, RAY, "rayjobs"), {"metadata": {"finalizers": None}})

    def _remove_cluster(self, ray_job: Json) -> None:
        name, namespace = ray_job.get("status", {}).get("rayClusterName"), ray_job["metadata"]["namespace"]
        if name:
            self._remove_pods({"name": name, "namespace": namespace})
            with suppress(RefusedError):
                self._api.delete(f"{RAY}/namespaces/{namespace}/rayclusters/{name}")

    def _remove_pods(self, cluster: Json) -> None:
        pods = f"/api/v1/namespaces/{cluster['namespace']}/pods"
        for pod in self._api.items(f"{pods}?labelSelector=ray.io/cluster={cluster['name']}"):
            with suppress(RefusedError):
                self._api.delete(f"{pods}/{pod['metadata']['name']}", gracePeriodSeconds=0)
        with self._lock:
            head = self._heads.pop(cluster["name"], None)
        if head:
            head.close()


class Head:
    """What a head pod serves at /progress."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.document: Json | None = None
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                said = served.says()
                body = json.dumps(said or {}).encode()
                self.send_response(200 if said else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((address, PROGRESS_PORT), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def says(self) -> Json | None:
        return self.document

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def document(play: Play, labels: dict[str, str]) -> Json:
    """What the driver says at /progress."""
    name, attempt = labels[f"{_LABEL}/name"], int(labels[f"{_LABEL}/attempt"])
    progress: Json = {"state": play.value, "run": attempt, "step": 5, "total": 10, "percent": 50}
    progress |= {"loss": 2.5, "fromStep": 0, "checkpoint": {"step": 4, "ageSeconds": 1.0}, "metrics": {"loss": 2.25}}
    progress["ending"] = None
    ending: Json = {
        "exitCode": 0,
        "cause": None,
        "message": "",
        "artifact": None,
        "metrics": {"loss": 2.25},
        "step": 10,
    }
    if play is Play.SUCCEEDS:
        artifact = {"uri": f"s3://models/{name}/artifact/{attempt:04}", "digest": DIGEST}
        return progress | {"step": 10, "percent": 100, "ending": ending | {"artifact": artifact}}
    if play is Play.FAILS:
        return progress | {"ending": ending | {"exitCode": 1, "cause": "Unknown", "message": "it broke", "step": 5}}
    return progress


def _owner(resource: Json) -> Json:
    named = {key: resource["metadata"][key] for key in ("name", "uid")}
    return {"apiVersion": resource["apiVersion"], "kind": resource["kind"], "controller": True, **named}


def _path(resource: Json, root: str, plural: str) -> str:
    meta = resource["metadata"]
    return f"{root}/namespaces/{meta['namespace']}/{plural}/{meta['name']}"
