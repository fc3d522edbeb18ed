"""When the operator says that it should be started again, and when not."""

import json
import re
import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pretune_operator.cluster.kinds import PODS, RAY_JOBS
from pretune_operator.health import BEAT_SECONDS, RECONCILE_SECONDS, RESYNC_SECONDS, Health, HealthServer
from pretune_operator.watches import GRACE_SECONDS, Watch, Watches
from support.ports import free_port

needs_both_families = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="the machine has no IPv6")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Queue:
    seconds: float = 0.0
    waiting: int = 0

    def oldest(self) -> float:
        return self.seconds

    def __len__(self) -> int:
        return self.waiting


@dataclass
class Cache:
    """Knows jobs as far as they are counted."""

    namespace: str = "team-a"
    kind: str = "PretrainJob"
    shown: str = "Running"
    status: bytes = b"{}"

    def jobs(self) -> list["Cache"]:
        return [self] * 50


@dataclass
class Several:
    """A cache of jobs that are not alike."""

    found: list[Cache]

    def jobs(self) -> list[Cache]:
        return self.found


@dataclass
class Parts:
    """A controller, kopf's loop and the resync, as health sees them."""

    started: bool = True
    alive: bool = True
    queue: Queue = field(default_factory=Queue)
    cache: Cache | Several = field(default_factory=Cache)
    last_beat: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)
    watches: Watches = field(default_factory=Watches)
    rewound: bool = False

    @property
    def health(self) -> Health:
        parts: Any = self
        return Health(parts, parts, self.watches, parts)

    def problems(self) -> list[str]:
        return self.health.problems()


def test_an_operator_that_does_its_work_is_healthy() -> None:
    assert Parts().problems() == []


def test_before_the_first_list_it_is_healthy_but_not_ready() -> None:
    resync: Any = Parts(last=float("-inf"))
    health = replace(Parts(started=False, alive=False).health, resync=resync)
    assert health.problems() == []
    assert health.ready() != []


def test_a_first_list_that_nobody_makes_any_more_is_noticed() -> None:
    assert Parts(started=False, alive=False).problems() == ["a worker has ended"]


def test_each_thing_that_hangs_is_named() -> None:
    now = time.monotonic()
    assert Parts(last_beat=now - BEAT_SECONDS - 1).problems() == ["the event loop hangs"]
    assert Parts(queue=Queue(RECONCILE_SECONDS + 1)).problems() == ["a reconcile has been running for 301 s"]
    assert Parts(alive=False).problems() == ["a worker has ended"]
    assert Parts(rewound=True).problems() == [
        "the cluster has gone back to an earlier state, as after a restore of etcd"
    ]
    assert Parts(last=now - RESYNC_SECONDS - 1).problems() == ["the cluster has not been listed for too long"]


def test_a_worker_that_has_ended_is_noticed_whichever_it_is() -> None:
    dead: Any = Parts(alive=False)
    for part in ("controller", "resync"):
        assert replace(Parts().health, **{part: dead}).problems() == ["a worker has ended"]


def test_a_watch_that_never_tells_what_a_list_has_shown_hangs() -> None:
    clock = Clock()
    watches = Watches(clock)
    watches.told(Watch(PODS), 10)
    watches.listed(Watch(PODS), 12)
    watches.listed(Watch(RAY_JOBS), 13)
    clock.now += GRACE_SECONDS + 1
    assert watches.hanging() == [Watch(PODS), Watch(RAY_JOBS)]
    watches.told(Watch(PODS), 12)
    assert watches.hanging() == [Watch(RAY_JOBS)]
    assert Parts(watches=watches).problems() == ["watches hang: rayjobs"]


def test_a_watch_of_one_namespace_that_hangs_is_not_excused_by_that_of_another() -> None:
    clock = Clock()
    watches = Watches(clock)
    watches.listed(Watch(PODS, "team-b"), 12)
    watches.told(Watch(PODS, "team-a"), 20)
    clock.now += GRACE_SECONDS + 1
    assert Parts(watches=watches).problems() == ["watches hang: pods in team-b"]


def test_a_watch_that_is_behind_but_tells_does_not_hang() -> None:
    clock = Clock()
    watches = Watches(clock)
    watches.listed(Watch(PODS), 12)
    clock.now += GRACE_SECONDS - 1
    watches.told(Watch(PODS), 11)
    clock.now += GRACE_SECONDS - 1
    assert watches.hanging() == []
    clock.now += 2
    assert watches.hanging() == [Watch(PODS)]


def test_what_a_watch_has_told_already_is_not_awaited() -> None:
    clock = Clock()
    watches = Watches(clock)
    watches.told(Watch(PODS), 12)
    watches.listed(Watch(PODS), 12)
    clock.now += GRACE_SECONDS + 1
    assert watches.hanging() == []


@pytest.mark.parametrize("address", ["127.0.0.1", pytest.param("[::1]", marks=needs_both_families)])
def test_probes_are_answered_at_addresses_of_both_families(address: str) -> None:
    port = free_port()
    serving = HealthServer(Parts().health, port)
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/healthz", timeout=5) as answer:
            assert answer.status == 200
    finally:
        serving.close()


def answered(parts: Parts, path: str) -> tuple[int, str, str]:
    """Code, content type and text of what the operator answers."""
    port = free_port()
    serving = HealthServer(parts.health, port)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()
    finally:
        serving.close()


def test_probes_are_told_what_is_wrong_and_that_it_is() -> None:
    assert answered(Parts(), "/healthz") == (200, "text/plain", "ok\n")
    assert answered(Parts(alive=False), "/healthz") == (503, "text/plain", "a worker has ended\n")
    assert answered(Parts(alive=False), "/readyz?verbose") == (200, "text/plain", "ok\n")
    assert answered(Parts(started=False), "/readyz")[0] == 503
    assert answered(Parts(), "/configz")[0] == 404


def test_prometheus_is_answered_in_its_own_format() -> None:
    code, kind, text = answered(Parts(cache=Cache("scraped")), "/metrics")
    assert (code, kind.partition(";")[0]) == (200, "text/plain")
    assert 'namespace="scraped",state="Running"} 50.0' in text


def test_of_a_namespace_whose_last_job_is_gone_nothing_is_counted_any_more() -> None:
    assert 'namespace="gone"' in Parts(cache=Cache("gone")).health.measured().decode()
    of_jobs = [
        line
        for line in Parts(cache=Cache("stays")).health.measured().decode().splitlines()
        if line.startswith(("pretune_operator_jobs{", "pretune_operator_queued_seconds{"))
    ]
    assert of_jobs
    assert all('namespace="stays"' in line for line in of_jobs)


def test_of_two_who_scrape_at_once_each_sees_every_job() -> None:
    health = Parts().health
    with ThreadPoolExecutor(4) as pool:
        scraped = list(pool.map(lambda _: health.measured(), range(200)))
    running = b'pretune_operator_jobs{kind="PretrainJob",namespace="team-a",state="Running"} 50.0'
    assert all(running in text for text in scraped)


def test_how_many_jobs_wait_and_how_old_the_last_list_is_are_measured() -> None:
    parts = Parts(queue=Queue(waiting=7), last=time.monotonic() - 90)
    scraped = parts.health.measured().decode()
    depth, age = (
        float(re.findall(rf"^pretune_operator_{name} (.*)$", scraped, re.MULTILINE)[0])
        for name in ("queue_depth", "census_age_seconds")
    )
    assert depth == 7
    assert age == pytest.approx(90, abs=30)


def queued(seconds_ago: float, **status: object) -> bytes:
    """A status that says so of quota since then."""
    since = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    quota = {"type": "QuotaReserved", "status": "False", "reason": "Queued", "message": "", "unheardOf": 1}
    return json.dumps({"conditions": [quota | {"lastTransitionTime": since.isoformat()}], **status}).encode()


def seconds_waited(namespace: str, status: bytes) -> float:
    parts = Parts(cache=Cache(namespace, shown="Queued", status=status))
    scraped = parts.health.measured().decode()
    (waits,) = re.findall(rf'queued_seconds{{kind="PretrainJob",namespace="{namespace}"}} (.*)', scraped)
    return float(waits)


def test_of_several_jobs_that_are_queued_the_one_that_waits_longest_counts() -> None:
    waits = [Cache("several", shown="Queued", status=queued(seconds)) for seconds in (90, 3_600, 200)]
    jobs = [*waits, Cache("several", shown="Running", status=queued(90_000))]
    parts = Parts(cache=Several(jobs))
    (found,) = re.findall(
        r'queued_seconds{kind="PretrainJob",namespace="several"} (.*)', parts.health.measured().decode()
    )
    assert float(found) == pytest.approx(3_600, abs=30)


def test_a_status_that_a_newer_version_has_written_ends_no_scrape() -> None:
    assert seconds_waited("newer", queued(90, unheardOf={})) == pytest.approx(90, abs=30)


def test_a_job_that_was_suspended_for_days_has_waited_for_quota_only_since_it_asked_again() -> None:
    asked = datetime.now(UTC) - timedelta(seconds=90)
    attempt = {"number": 2, "rayJob": "ptj-2", "startTime": asked.isoformat()}
    assert seconds_waited("resumed", queued(300_000, attempts=[attempt])) == pytest.approx(90, abs=30)


def test_an_attempt_whose_quota_was_reclaimed_waits_since_then() -> None:
    made = datetime.now(UTC) - timedelta(days=3)
    attempt = {"number": 1, "rayJob": "ptj-1", "startTime": made.isoformat()}
    assert seconds_waited("evicted", queued(90, attempts=[attempt])) == pytest.approx(90, abs=30)
