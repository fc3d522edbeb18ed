"""Carries out what was decided: makes and deletes what attempts consist of, writes status."""

import logging
from collections.abc import Callable
from typing import Any

from pretune_api.names import API_VERSION, Label
from pretune_api.problems import InvalidJobError
from pretune_api.status import Status
from pretune_operator.cluster.cache import Cache
from pretune_operator.cluster.client import ApiError, Client
from pretune_operator.cluster.kinds import CHILDREN, CONFIG_MAPS, JOBS, MADE, NETWORK_POLICIES, Resource
from pretune_operator.cluster.objects import Child, JobKey, StoredJob, StoredPreflight, StoredRayCluster, StoredRayJob
from pretune_operator.cluster.parse import parse
from pretune_operator.conditions import ConditionType, Reason, reason
from pretune_operator.decision import (
    Action,
    DeleteAttempt,
    DeleteCluster,
    DeleteLeftovers,
    DeletePreflight,
    StartAttempt,
    StartPreflight,
)
from pretune_operator.errors import RefusedError
from pretune_operator.job import JobView
from pretune_operator.naming import Manifest
from pretune_operator.preflight_job import preflight_job
from pretune_operator.rayjob import manifests
from pretune_operator.settings import Settings

log = logging.getLogger(__name__)


class TakenError(Exception):
    """Something that is not ours has the name of what was to be made."""


class Actor:
    """Writes to the cluster on behalf of jobs. Used by many threads at once, by one at a time for each job."""

    def __init__(self, client: Client, cache: Cache, wake: Callable[[set[JobKey]], None], settings: Settings) -> None:
        """`wake` is told which other jobs have to be looked at because of what was written on behalf of one."""
        self._client = client
        self._cache = cache
        self._wake = wake
        self._settings = settings

    def act(self, job: StoredJob, view: JobView | InvalidJobError, action: Action) -> None:
        """Carry out one action. What has been done already is no error.

        Raises:
            ApiError: the API server refuses, or cannot be reached.
            TakenError: what was to be made exists, and belongs to somebody else.
            RefusedError: the API server refuses what was to be made, and will again as long as nothing changes.
        """
        match action:
            case StartAttempt():
                assert isinstance(view, JobView), "an invalid job is never started"
                self._start(job, view, action)
            case DeleteAttempt(ray_job):
                self._delete(job, StoredRayJob, ray_job)
            case DeleteCluster(ray_cluster):
                self._delete(job, StoredRayCluster, ray_cluster)
            case DeleteLeftovers():
                self._clear(job, Label.ATTEMPT, CONFIG_MAPS, NETWORK_POLICIES)
            case StartPreflight(number, config):
                assert isinstance(view, JobView), "an invalid job is never tried"
                self._make(job, preflight_job(view, config, number, self._settings))
            case DeletePreflight(name):
                self._delete(job, StoredPreflight, name)

    def write(self, job: StoredJob, status: Status) -> None:
        """Replace the status of `job`, if it still is what was judged.

        Raises:
            ApiError: the API server refuses: Conflict if the job has changed in the meantime.
        """
        meta = {"name": job.name, "namespace": job.namespace, "uid": job.uid, "resourceVersion": str(job.version)}
        document = {"apiVersion": API_VERSION, "kind": job.kind, "metadata": meta}
        # The API server keeps the spec that it has, whatever a write of status says.
        written = self._client.replace_status(
            job.resource, document | {"status": status.model_dump(mode="json", exclude_none=True)}
        )
        self._learn(job.key, job.resource, written)

    def _start(self, job: StoredJob, view: JobView, action: StartAttempt) -> None:
        if action.number > 1:
            self._clear(job, f"{Label.ATTEMPT}={action.number - 1}", CONFIG_MAPS, NETWORK_POLICIES)
        if reason(view.status, ConditionType.RUNNING) == Reason.REFUSED:
            # A ConfigMap is named after what it holds; a NetworkPolicy would stay as the settings were.
            self._clear(job, f"{Label.ATTEMPT}={action.number}", NETWORK_POLICIES)
        try:
            for manifest in manifests(view, action.config, action.number, self._settings).in_order:
                self._make(job, manifest)
        except ApiError as error:
            if error.webhook_failed:
                raise RefusedError(str(error)) from error
            raise

    def _clear(self, job: StoredJob, attempts: str, *resources: Resource) -> None:
        """Delete what the attempts that a label selector finds have left; agents on all nodes keep NetworkPolicies."""
        for resource in resources:
            try:
                self._client.delete_all(resource, job.namespace, f"{Label.UID}={job.uid},{attempts}")
            except ApiError as error:
                if not error.refused:
                    raise
                # No right to do it, where roles are not the chart's: what is left goes with the job, at the latest.
                log.warning("%s were not deleted: %s", resource.plural, error, extra={"job": str(job.key)})

    def _make(self, job: StoredJob, manifest: Manifest) -> None:
        resource = MADE[manifest["kind"]]
        try:
            made = self._client.create(resource, manifest)
        except ApiError as error:
            if error.refused:
                raise RefusedError(str(error)) from error
            if not error.already_exists:
                raise
            made = self._ours(resource, manifest, job.uid)
        self._learn(job.key, resource, made)

    def _ours(self, resource: Resource, manifest: Manifest, owner: str) -> dict[str, Any]:
        """What has the manifest's name already, which must belong to the job `owner`."""
        meta = manifest["metadata"]
        found = self._client.get(resource, meta["namespace"], meta["name"])
        if owner not in {reference["uid"] for reference in found["metadata"].get("ownerReferences") or ()}:
            raise TakenError(
                f"{resource.kind} {meta['namespace']}/{meta['name']} exists, but does not belong to this job; delete it"
            )
        return found

    def _delete(self, job: StoredJob, kept: type[Child], name: str) -> None:
        child = next((child for child in self._cache.children(job, kept) if child.name == name), None)
        if child is None:
            return
        try:
            self._learn(job.key, kept.resource, self._client.delete(kept.resource, job.namespace, name, child.uid))
        except ApiError as error:
            if not error.not_found and error.reason != "Conflict":  # another one of the same name is not ours to delete
                raise
            self._cache.remove(child)

    def _learn(self, writer: JobKey, resource: Resource, raw: dict[str, Any]) -> None:
        """Take in an answer: whatever is decided next is decided with our own writes in view."""
        watched = resource in (*CHILDREN, *JOBS.values())
        if watched and raw.get("kind") == resource.kind and (stored := parse(resource, raw)):
            self._wake(self._cache.put(stored) - {writer})
