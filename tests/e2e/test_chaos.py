"""One job through faults of all kinds, in random order and one over another: it learns what it would have learnt."""

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import datetime
from itertools import pairwise

import pytest

from e2e import corpora
from e2e.cluster.s3 import S3Server
from e2e.conftest import SYSTEM
from e2e.world import Document, Namespace

pytestmark = pytest.mark.long

SEED = 1
JOB = "pretrainjob/survivor"
SIGNAL = (
    "for process in /proc/[0-9]*; do grep -q '^{name}' $process/comm && kill -{signal} ${{process#/proc/}}; done; true"
)
"""Sends all processes of a pod whose names begin like this a signal."""
AT_ONCE = ("--grace-period=0", "--force", "--wait=false")
END_SECONDS = 900.0
"""Time in which the job ends once it is left alone."""


class Faults:
    """What happens on clusters. Each befalls what is there at that moment, which may be nothing."""

    def __init__(self, team: Namespace, store: S3Server, chance: random.Random) -> None:
        self._team = team
        self._store = store
        self._chance = chance
        self._serving = ExitStack()

    def __enter__(self) -> "Faults":
        self._serving.enter_context(self._store.running())
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.close()

    def in_disorder(self) -> Iterator[Callable[[], None]]:
        """Each twice; the next comes while the job starts again, or once it trains."""
        kinds = [
            self.a_machine_dies,
            self.a_rank_is_killed,
            self.a_rank_is_frozen,
            self.the_head_is_deleted,
            self.a_worker_is_evicted,
            self.the_job_is_suspended,
            self.the_store_is_away,
            self.the_operator_is_killed,
            self.kuberay_is_killed,
            self.the_ray_job_is_deleted,
            self.the_run_config_is_deleted,
        ]
        for fault in self._chance.sample(kinds, len(kinds)) + self._chance.sample(kinds, len(kinds)):
            time.sleep(self._chance.choice([self._chance.uniform(0, 5), self._chance.uniform(5, 60)]))
            yield fault

    def a_machine_dies(self) -> None:
        self._in_worker(SIGNAL.format(name="raylet", signal="KILL"))

    def a_rank_is_killed(self) -> None:
        self._in_worker(SIGNAL.format(name="ray::", signal="KILL"))

    def a_rank_is_frozen(self) -> None:
        stop, go_on = (SIGNAL.format(name="ray::", signal=signal) for signal in ("STOP", "CONT"))
        self._in_worker(f"{stop}; sleep {self._chance.uniform(3, 15):.0f}; {go_on}")

    def the_head_is_deleted(self) -> None:
        for pod in self._team.pods(JOB, "head"):
            self._team.delete("pod", pod["metadata"]["name"], *AT_ONCE)

    def a_worker_is_evicted(self) -> None:
        for pod in self._team.pods(JOB, "worker")[:1]:
            self._team.evict(pod["metadata"]["name"])

    def the_job_is_suspended(self) -> None:
        self._team.patch(JOB, {"suspend": True})
        time.sleep(self._chance.uniform(0, 20))
        self._team.patch(JOB, {"suspend": False})

    def the_store_is_away(self) -> None:
        self._serving.close()
        time.sleep(self._chance.uniform(2, 30))
        self._serving.enter_context(self._store.running())

    def the_operator_is_killed(self) -> None:
        self._team.cluster.kubectl("--namespace", SYSTEM, "delete", "pod", "--all", *AT_ONCE)

    def kuberay_is_killed(self) -> None:
        kuberay = ("-l", "app.kubernetes.io/name=kuberay")
        self._team.cluster.kubectl("--namespace", "default", "delete", "pod", *kuberay, *AT_ONCE)

    def the_ray_job_is_deleted(self) -> None:
        self._team.delete("rayjobs", "--all", "--wait=false")

    def the_run_config_is_deleted(self) -> None:
        self._team.delete("configmaps", "-l", "pretune.dev/name=survivor", "--wait=false")

    def _in_worker(self, script: str) -> None:
        for pod in self._team.pods(JOB, "worker")[:1]:
            self._team.kubectl("exec", pod["metadata"]["name"], "--", "sh", "-c", script)


@pytest.fixture(scope="module")
def status(undisturbed: dict[str, float], other_team: Namespace, store: S3Server) -> Document:
    """What the job says in the end; `undisturbed` comes first, since the machine has few cores."""
    job = corpora.in_store(corpora.survivor(), store.endpoint)
    job["spec"]["failurePolicy"] = {"retries": {"unknown": 100}, "backoffSeconds": 0}
    with Faults(other_team, store, random.Random(SEED)) as faults:
        other_team.apply(job)
        for fault in faults.in_disorder():
            with suppress(subprocess.CalledProcessError):  # a pod that is about to go, or not there yet
                fault()
        return other_team.wait_for_state(JOB, "Succeeded", END_SECONDS)


def test_what_was_learnt_is_what_an_undisturbed_run_learns(status: Document, undisturbed: dict[str, float]) -> None:
    assert status["metrics"] == {name: pytest.approx(value, abs=1e-4) for name, value in undisturbed.items()}


def test_no_attempt_was_made_before_the_one_before_had_ended(status: Document) -> None:
    for before, after in pairwise(status["attempts"]):
        ended = datetime.fromisoformat(before["completionTime"])
        # Of one that an operator made and did not live to tell of, Kubernetes tells the whole second.
        assert ended.replace(microsecond=0) <= datetime.fromisoformat(after["startTime"])


def test_no_attempt_lost_what_another_had_committed(status: Document) -> None:
    began = [attempt["fromStep"] for attempt in status["attempts"] if attempt["runs"]]
    assert began == sorted(began)
    assert len(began) > 1
