"""Kubernetes' own controllers of Jobs, for preflights alone: their pods end at once, with the words that a test gives.

As no garbage collector runs beside a bare API server, it also ends what is deleted in the foreground.
"""

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from support.kube_api import Json, KubeApi, RefusedError
from support.preflights import finding, words

JOBS = "/apis/batch/v1"

Play = tuple[str, int]
"""A container's last words, and its exit code."""


def passes(job: str) -> Play:
    return words(finding(True, "it can be read")), 0


class FakeJobs:
    """Plays the preflights of a cluster, from `__enter__` to `__exit__`."""

    def __init__(self, api: KubeApi, plays: Callable[[str], Play] = passes) -> None:
        """`plays` says how the preflights of a job end."""
        self.made: Counter[tuple[str, str]] = Counter()
        """How often a Job was made, by namespace and name."""
        self._api = api
        self._plays = plays
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "FakeJobs":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._api.close()
        self._thread.join()

    def _follow(self) -> None:
        version = self._api.get(f"{JOBS}/jobs")["metadata"]["resourceVersion"]
        for event in self._api.watch(f"{JOBS}/jobs", version):
            with suppress(RefusedError):  # it is gone, or has changed: another event is on its way
                self._see(event["type"], event["object"])

    def _see(self, kind: str, job: Json) -> None:
        meta = job["metadata"]
        self.made[meta["namespace"], meta["name"]] += kind == "ADDED"
        if kind != "DELETED" and "deletionTimestamp" in meta:
            with suppress(RefusedError):
                self._api.delete(f"{self._pods(job)}/{meta['name']}-pod", gracePeriodSeconds=0)
            path = f"{JOBS}/namespaces/{meta['namespace']}/jobs/{meta['name']}"
            self._api.merge(path, {"metadata": {"finalizers": None}})
        elif kind == "ADDED":
            self._play(job)

    def _play(self, job: Json) -> None:
        meta, template = job["metadata"], job["spec"]["template"]
        pod = {"metadata": template["metadata"] | {"name": f"{meta['name']}-pod"}, "spec": template["spec"]}
        self._api.create(self._pods(job), pod)
        message, exit_code = self._plays(meta["labels"]["pretune.dev/name"])
        status = {"phase": "Failed" if exit_code else "Succeeded", "containerStatuses": [_ended(message, exit_code)]}
        self._api.merge(f"{self._pods(job)}/{meta['name']}-pod/status", {"status": status})

    def _pods(self, job: Json) -> str:
        return f"/api/v1/namespaces/{job['metadata']['namespace']}/pods"


def _ended(message: str, exit_code: int) -> dict[str, Any]:
    terminated = {"exitCode": exit_code, "message": message, "reason": "Error" if exit_code else "Completed"}
    common = {"name": "preflight", "image": "none", "imageID": "", "ready": False, "restartCount": 0}
    return common | {"state": {"terminated": terminated}}
