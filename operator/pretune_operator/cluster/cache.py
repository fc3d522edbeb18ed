"""A copy of what is watched, fed by watches, by lists, and by the answers to our own writes; the newest version wins.

kopf's own indexes would be that copy, but they never forget what was deleted while a watch was interrupted, and do not
know our own writes before they come back. Here every key is only written under the lock; what is handed out is frozen.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import chain
from typing import Final, TypeVar

from pretune_operator.cluster.kinds import Resource
from pretune_operator.cluster.objects import Child, JobKey, Stored, StoredJob, StoredPod

C = TypeVar("C", bound=Child)

_REMEMBERED: Final = 50_000
"""UIDs of deleted resources that are remembered, so that no late answer brings one back."""

_Place = tuple[type[Stored], str, str, str]


class Cache:
    """What is known of the cluster. Used by many threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[JobKey, StoredJob] = {}
        self._by_uid: dict[str, JobKey] = {}
        self._children: dict[str, dict[_Place, Child]] = defaultdict(dict)
        self._failed_heads: dict[str, StoredPod] = {}
        self._named_by: dict[tuple[str, str], set[JobKey]] = defaultdict(set)
        self._gone: set[str] = set()
        self._gone_in_order: deque[str] = deque()
        self.left_out: set[str | None] = set()
        """Namespaces of which too little is known to look after their jobs; None among them while that goes for all."""

    def put(self, stored: StoredJob | Child) -> set[JobKey]:
        """Keep `stored` if it is newer than what is known; the jobs that have to be looked at because of it."""
        with self._lock:
            before = self._find(stored)
            if stored.uid in self._gone or (before is not None and before.version >= stored.version):
                return set()
            self._keep(stored, before)
            news = before is None or before.uid != stored.uid or before != stored
            return self._concerned(stored, before) if news else set()

    def remove(self, stored: StoredJob | Child) -> set[JobKey]:
        """Forget a resource that is gone; the jobs that have to be looked at because of it."""
        with self._lock:
            self._bury(stored.uid)
            before = self._find(stored)
            if before is None or before.uid != stored.uid:
                return set()
            self._drop(before)
            self._remember(stored)
            return self._concerned(before, None)

    def versions(self, resource: Resource, namespace: str | None = None) -> dict[str, int]:
        """Versions of all resources of a kind in a namespace (in all, when None), by UID."""
        return {stored.uid: stored.version for stored in self._all(resource, namespace)}

    def retain(
        self, resource: Resource, alive: Collection[str], version: int, namespace: str | None = None
    ) -> set[JobKey]:
        """Forget what a complete list of `version`, of a namespace or of all, no longer holds; the jobs to look at."""
        known = self._all(resource, namespace)
        gone = [stored for stored in known if stored.uid not in alive and stored.version <= version]
        return {key for stored in gone for key in self.remove(stored)}

    def job(self, key: JobKey) -> StoredJob | None:
        """A job, if it exists."""
        with self._lock:
            return self._jobs.get(key)

    def jobs(self) -> list[StoredJob]:
        """All jobs that are looked after."""
        with self._lock:
            return [job for job in self._jobs.values() if job.namespace not in self.left_out]

    def children(self, job: StoredJob, kept: type[C]) -> list[C]:
        """What belongs to the attempts of a job."""
        with self._lock:
            family = self._children.get(job.uid, {}).values()
            return [child for child in family if isinstance(child, kept) and child.namespace == job.namespace]

    def failed_head(self, job: StoredJob) -> StoredPod | None:
        """The last head pod of a job that failed and is gone: KubeRay deletes it before anybody has seen why."""
        with self._lock:
            return self._failed_heads.get(job.uid)

    def _all(self, resource: Resource, namespace: str | None) -> list[StoredJob | Child]:
        with self._lock:
            families = (family.values() for family in self._children.values())
            known: Iterator[StoredJob | Child] = chain(self._jobs.values(), *families)
            found = [stored for stored in known if stored.resource is resource]
        return found if namespace is None else [stored for stored in found if stored.namespace == namespace]

    def _find(self, stored: StoredJob | Child) -> StoredJob | Child | None:
        if isinstance(stored, StoredJob):
            return self._jobs.get(stored.key)
        return self._children.get(stored.job, {}).get(_place(stored))

    def _keep(self, stored: StoredJob | Child, before: StoredJob | Child | None) -> None:
        if not isinstance(stored, StoredJob):
            self._children[stored.job][_place(stored)] = stored
            return
        if before is not None:
            self._drop(before)
        self._jobs[stored.key] = stored
        self._by_uid[stored.uid] = stored.key
        for parent in stored.parents:
            self._named_by[stored.namespace, parent].add(stored.key)

    def _drop(self, stored: StoredJob | Child) -> None:
        if not isinstance(stored, StoredJob):
            family = self._children[stored.job]
            del family[_place(stored)]
            if not family:
                del self._children[stored.job]
            return
        del self._jobs[stored.key], self._by_uid[stored.uid]
        for parent in stored.parents:
            self._named_by[stored.namespace, parent].discard(stored.key)
            if not self._named_by[stored.namespace, parent]:
                del self._named_by[stored.namespace, parent]

    def _remember(self, gone: StoredJob | Child) -> None:
        if isinstance(gone, StoredJob):
            self._failed_heads.pop(gone.uid, None)
        elif isinstance(gone, StoredPod) and gone.is_head and gone.seen.phase == "Failed" and self._is_at_home(gone):
            self._failed_heads[gone.job] = replace(gone, leaves_by=None, seen=replace(gone.seen, deleting=False))

    def _is_at_home(self, child: Child) -> bool:
        """Whether its job is known, and in its namespace: labels can be anybody's."""
        key = self._by_uid.get(child.job)
        return key is not None and key.namespace == child.namespace

    def _bury(self, uid: str) -> None:
        if uid not in self._gone:
            self._gone.add(uid)
            self._gone_in_order.append(uid)
        if len(self._gone_in_order) > _REMEMBERED:
            self._gone.discard(self._gone_in_order.popleft())

    def _concerned(self, stored: StoredJob | Child, before: StoredJob | Child | None) -> set[JobKey]:
        """The job itself, and those that start from it, if what they read of it has changed."""
        if not isinstance(stored, StoredJob):
            key = self._by_uid.get(stored.job)
            return {key} if key else set()
        told = isinstance(before, StoredJob) and _told(before) == _told(stored)
        return {stored.key} | (set() if told else self._named_by.get((stored.namespace, stored.reference), set()))


def _place(child: Child) -> _Place:
    return type(child), child.namespace, child.name, child.job


def _told(job: StoredJob) -> tuple[object, ...]:
    """What the jobs that start from `job` read of it."""
    return job.uid, job.state, job.artifact, job.parents
