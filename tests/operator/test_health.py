"""When the operator says that it should be started again, and when not."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pretune_operator.cluster.kinds import PODS, RAY_JOBS
from pretune_operator.health import BEAT_SECONDS, RECONCILE_SECONDS, RESYNC_SECONDS, Health
from pretune_operator.watches import GRACE_SECONDS, Watches


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Queue:
    seconds: float = 0.0

    def oldest(self) -> float:
        return self.seconds

    def __len__(self) -> int:
        return 0


@dataclass
class Cache:
    """Knows jobs as far as they are counted."""

    namespace: str = "team-a"
    kind: str = "PretrainJob"
    shown: str = "Running"

    def jobs(self) -> list["Cache"]:
        return [self] * 50


@dataclass
class Parts:
    """A machine, kopf's loop and the resync, as health sees them."""

    started: bool = True
    alive: bool = True
    queue: Queue = field(default_factory=Queue)
    cache: Cache = field(default_factory=Cache)
    last_beat: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)
    watches: Watches = field(default_factory=Watches)

    def problems(self) -> list[str]:
        return Health(self, self, self.watches, self).problems()  # type: ignore[arg-type]


def test_an_operator_that_does_its_work_is_healthy() -> None:
    assert Parts().problems() == []


def test_before_the_first_list_it_is_healthy_but_not_ready() -> None:
    starting = Parts(started=False, alive=False, last=float("-inf"))
    assert starting.problems() == []
    assert Health(starting, starting, starting.watches, starting).ready() != []  # type: ignore[arg-type]


def test_each_thing_that_hangs_is_named() -> None:
    now = time.monotonic()
    assert Parts(last_beat=now - BEAT_SECONDS - 1).problems() == ["the event loop hangs"]
    assert Parts(queue=Queue(RECONCILE_SECONDS + 1)).problems() == ["a reconcile has been going on for 301 s"]
    assert Parts(alive=False).problems() == ["a worker has ended"]
    assert Parts(last=now - RESYNC_SECONDS - 1).problems() == ["the cluster has not been listed for too long"]


def test_a_watch_that_never_tells_what_a_list_has_shown_hangs() -> None:
    clock = Clock()
    watches = Watches(clock)
    watches.told(PODS, 10)
    watches.listed(PODS, 12)
    watches.listed(RAY_JOBS, 13)
    clock.now += GRACE_SECONDS + 1
    assert watches.hanging() == [PODS, RAY_JOBS]
    watches.told(PODS, 12)
    assert watches.hanging() == [RAY_JOBS]
    assert Parts(watches=watches).problems() == ["watches hang: rayjobs"]


def test_what_a_watch_has_told_already_is_not_awaited() -> None:
    clock = Clock()
    watches = Watches(clock)
    watches.told(PODS, 12)
    watches.listed(PODS, 12)
    clock.now += GRACE_SECONDS + 1
    assert watches.hanging() == []


def test_of_two_who_scrape_at_once_each_sees_every_job() -> None:
    parts = Parts()
    health = Health(parts, parts, parts.watches, parts)  # type: ignore[arg-type]
    with ThreadPoolExecutor(4) as pool:
        scraped = list(pool.map(lambda _: health.measured(), range(200)))
    running = b'pretune_operator_jobs{kind="PretrainJob",namespace="team-a",state="Running"} 50.0'
    assert all(running in text for text in scraped)
