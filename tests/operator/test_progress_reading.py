"""What a head pod says at /progress, as the operator takes it."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pretune_api.names import PROGRESS_PORT
from pretune_operator.cluster import progress as reading
from pretune_operator.cluster.kinds import RAY_JOBS
from pretune_operator.cluster.objects import JobKey, StoredRayJob
from pretune_operator.cluster.parse import parse
from pretune_operator.cluster.progress import POLL_SECONDS, Readings
from pretune_operator.observed import SeenPod
from pretune_trainer.drive.progress import Progress
from pretune_trainer.drive.wire import Artifact, Ending
from support.boards import DIGEST, going_on

JOB = JobKey("team", "PretrainJob", "general")


@pytest.fixture
def progress() -> Progress:
    return going_on()


class Pod:
    """A head pod on a loopback address of its own."""

    def __init__(self, document: dict[str, Any], says: bytes | None = None) -> None:
        """It `says` something else than its document where that is given."""
        self.document = document
        self.asked = 0
        pod = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                pod.asked += 1
                body = json.dumps(pod.document).encode() if says is None else says
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.address, self._server = _listen(Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def seen(self, **fields: Any) -> SeenPod:
        return SeenPod("head", "Running", ip=self.address, **fields)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _listen(handler: Callable[..., BaseHTTPRequestHandler]) -> tuple[str, ThreadingHTTPServer]:
    """A server on the first loopback address whose port is free: the port itself is fixed."""
    for number in range(2, 250):
        try:
            return f"127.9.9.{number}", ThreadingHTTPServer((f"127.9.9.{number}", PROGRESS_PORT), handler)
        except OSError:
            continue
    raise AssertionError("no loopback address is free")


def ray_job(cluster: str = "cluster", attempt: int = 1) -> StoredRayJob:
    """The RayJob of an attempt at the job."""
    labels = {"pretune.dev/uid": "0123abcd", "pretune.dev/attempt": str(attempt)}
    meta = {"namespace": JOB.namespace, "name": "ptj", "uid": "ray", "resourceVersion": "1", "labels": labels}
    owned = {"creationTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": [{"uid": "0123abcd"}]}
    stored = parse(RAY_JOBS, {"metadata": meta | owned, "status": {"rayClusterName": cluster}})
    assert isinstance(stored, StoredRayJob)
    return stored


def _silent() -> socket.socket:
    """What takes connections and never answers."""
    for number in range(2, 250):
        with suppress(OSError):
            return socket.create_server((f"127.9.8.{number}", PROGRESS_PORT))
    raise AssertionError("no loopback address is free")


@pytest.fixture
def pod(progress: Progress) -> Iterator[Pod]:
    pod = Pod(progress.to_json())
    yield pod
    pod.close()


class Told:
    """Takes the jobs that are woken."""

    def __init__(self) -> None:
        self.jobs: set[JobKey] = set()
        self.something = threading.Event()

    def __call__(self, keys: set[JobKey]) -> None:
        self.jobs |= keys
        self.something.set()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def readings(told: Told, monkeypatch: pytest.MonkeyPatch) -> Iterator[Readings]:
    for patience in ("_CONNECT_SECONDS", "_ANSWER_SECONDS"):  # a head that answers is read, however busy this machine
        monkeypatch.setattr(reading, patience, 60.0)
    readings = Readings(told)
    readings.start()
    yield readings
    readings.stop()


def test_of_an_endless_answer_no_more_is_read_than_fits(readings: Readings, pod: Pod, told: Told) -> None:
    pod.document["padding"] = "x" * (1 << 20)
    assert readings.look(JOB, ray_job(), pod.seen(deleting=True), ending=True) is None
    del pod.document["padding"]
    readings.look(JOB, ray_job(), pod.seen(), ending=False)
    assert told.something.wait(30)


def test_a_head_that_runs_is_read_in_the_background_and_its_job_is_woken(
    readings: Readings, pod: Pod, told: Told
) -> None:
    assert readings.look(JOB, ray_job(), pod.seen(), ending=False) is None
    assert told.something.wait(30)
    assert told.jobs == {JOB}
    read = readings.look(JOB, ray_job(), pod.seen(), ending=False)
    assert read is not None
    assert read.steps.step == 100


def test_a_head_is_read_once_in_a_while_however_often_its_job_is_looked_at(
    readings: Readings, pod: Pod, told: Told
) -> None:
    readings.look(JOB, ray_job(), pod.seen(), ending=False)
    assert told.something.wait(30)
    for _ in range(100):
        assert readings.look(JOB, ray_job(), pod.seen(), ending=False) is not None
    assert pod.asked == 1
    # What was read is all that changes in the status of a job that trains.
    assert 1_000 / POLL_SECONDS < 50, "writes a second for a thousand jobs"


def test_a_head_is_heard_for_as_long_as_it_answers_and_no_longer_than_a_node_takes_to_be_lost(
    readings: Readings, pod: Pod, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = ray_job().ray_cluster
    assert cluster is not None
    assert not readings.hears(JOB, cluster)
    readings.look(JOB, ray_job(), pod.seen(), ending=False)
    assert told.something.wait(30)
    assert readings.hears(JOB, cluster)
    late = time.monotonic() + 40
    monkeypatch.setattr(time, "monotonic", lambda: late)
    assert not readings.hears(JOB, cluster), "Kubernetes finds a node silent after 40 s at the earliest"


def test_heads_that_do_not_answer_keep_no_other_from_being_read(readings: Readings, pod: Pod, told: Told) -> None:
    with ExitStack() as stack:
        for number in range(8):
            address, *_ = stack.enter_context(_silent()).getsockname()
            silent = JobKey("team", "PretrainJob", f"silent-{number}")
            readings.look(silent, ray_job(), SeenPod("head", "Running", ip=address), ending=False)
        readings.look(JOB, ray_job(), pod.seen(), ending=False)
        assert told.something.wait(30), "before the first of those that are silent is given up"
    assert told.jobs == {JOB}


def test_a_head_that_is_about_to_go_is_asked_for_its_last_word_at_once(
    readings: Readings, pod: Pod, progress: Progress
) -> None:
    progress.ending = Ending(1, "it broke", cause="Unknown")
    pod.document = progress.to_json()
    read = readings.look(JOB, ray_job(), pod.seen(deleting=True), ending=True)
    assert read is not None
    assert read.ending is not None
    assert read.ending.message == "it broke"


def test_a_last_word_is_asked_for_once_and_outlives_its_head(readings: Readings, pod: Pod, progress: Progress) -> None:
    progress.ending = Ending(0, "")
    pod.document = progress.to_json()
    for head in (pod.seen(), pod.seen(), None):
        read = readings.look(JOB, ray_job(), head, ending=True)
        assert read is not None
        assert read.ending is not None
    assert pod.asked == 1


def test_a_head_that_has_no_last_word_yet_is_not_asked_again_and_again(
    readings: Readings, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_LAST_SECONDS", 60.0)  # longer than a busy machine takes for all of this
    for _ in range(5):
        readings.look(JOB, ray_job(), pod.seen(), ending=True)
    assert pod.asked == 1


def test_what_the_head_of_an_earlier_cluster_said_is_forgotten(readings: Readings, pod: Pod) -> None:
    assert readings.look(JOB, ray_job("first"), pod.seen(), ending=True)
    readings.keep(JOB, ["second"])
    assert readings.look(JOB, ray_job("first"), None, ending=True) is None


def test_a_head_that_does_not_answer_changes_nothing(readings: Readings) -> None:
    nobody = SeenPod("head", "Running", ip="127.9.9.1")
    assert readings.look(JOB, ray_job(), nobody, ending=True) is None


@pytest.mark.parametrize(
    "says",
    [b"[" * 100_000, b'{"state": "Failed", "ending": {"exitCode": Infinity}}', b'{"job": 7}', b'{"state": "\\ud800"}'],
    ids=["deep", "infinite", "of no job", "no text"],
)
def test_whatever_a_head_says_a_reconcile_goes_on_and_so_do_all_readings(
    readings: Readings, pod: Pod, told: Told, says: bytes
) -> None:
    hostile = Pod({}, says)
    assert readings.look(JOB, ray_job(), hostile.seen(deleting=True), ending=True) is None
    for number in range(20):
        its = JobKey("team", "PretrainJob", f"hostile-{number}")
        readings.look(its, ray_job(), hostile.seen(), ending=False)
    readings.look(JOB, ray_job(), pod.seen(), ending=False)
    assert told.something.wait(30)
    assert readings.alive
    hostile.close()


class Dribbling:
    """A head that sends a byte now and then, for a long time: of its headers, or of what follows them."""

    def __init__(self, begins: bytes) -> None:
        self.begins = begins

    def __call__(self, *arguments: Any) -> BaseHTTPRequestHandler:
        dribbling = self

        class Handler(BaseHTTPRequestHandler):
            def handle(self) -> None:
                self.connection.sendall(dribbling.begins)
                with suppress(OSError):
                    for _ in range(100):
                        self.connection.sendall(b" ")
                        time.sleep(0.1)

        return Handler(*arguments)


@pytest.mark.parametrize("begins", [b"HTTP/1.0 200 OK\r\nX: ", b"HTTP/1.0 200 OK\r\n\r\n"], ids=["headers", "body"])
def test_a_head_that_answers_slowly_holds_a_reconcile_no_longer_than_one_that_is_silent(
    readings: Readings, monkeypatch: pytest.MonkeyPatch, begins: bytes
) -> None:
    monkeypatch.setattr(reading, "_ANSWER_SECONDS", 0.5)
    address, server = _listen(Dribbling(begins))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    began = time.monotonic()
    assert readings.look(JOB, ray_job(), SeenPod("head", "Running", ip=address), ending=True) is None
    assert time.monotonic() - began < 5, "it dribbles for twice that time"
    server.shutdown()
    server.server_close()


OURS = {"namespace": "team", "kind": "PretrainJob", "name": "general", "uid": "0123abcd", "attempt": 1}


@pytest.mark.parametrize("other", [{"name": "another"}, {"uid": "made anew"}, {"attempt": 2}], ids=str)
def test_what_another_attempt_says_at_the_address_of_a_head_is_not_taken_for_its_word(
    readings: Readings, progress: Progress, pod: Pod, other: dict[str, Any]
) -> None:
    progress.ending = Ending(0, "", artifact=Artifact("s3://models/another", DIGEST))
    pod.document = progress.to_json() | {"job": OURS | other}
    assert readings.look(JOB, ray_job("first"), pod.seen(deleting=True), ending=True) is None
    pod.document |= {"job": OURS}
    assert readings.look(JOB, ray_job("second"), pod.seen(deleting=True), ending=True) is not None


def test_an_answer_that_is_not_understood_is_told_once_and_another_again(
    readings: Readings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_RETRY_SECONDS", 0.01)
    hostile = Pod({"state": "Running", "run": "second"})
    readings.look(JOB, ray_job(), hostile.seen(), ending=False)
    wait_for(lambda: hostile.asked > 5)
    assert [getattr(record, "job", None) for record in caplog.records] == [str(JOB)]
    hostile.document = {"state": "Running", "run": "third"}
    wait_for(lambda: len(caplog.records) > 1)
    assert "third" in caplog.text
    hostile.close()


def test_an_answer_that_is_not_understood_fills_no_log(readings: Readings, caplog: pytest.LogCaptureFixture) -> None:
    hostile = Pod({"job": {"name": "a" * 100_000}})
    readings.look(JOB, ray_job(), hostile.seen(), ending=True)
    (record,) = caplog.records
    assert len(record.getMessage()) < 1_000
    hostile.close()


def wait_for(holds: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)
