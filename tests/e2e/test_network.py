"""NetworkPolicies where they are enforced: who reaches a job's pods and the operator, and what the operator reaches."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from e2e import corpora
from e2e.cluster.cluster import Cluster
from e2e.conftest import SYSTEM, Installation
from e2e.monitoring import MONITORING
from e2e.world import Document, Namespace, namespace, pod
from pretune_api.names import DESK_PORT, PROGRESS_PORT

JOB = "pretrainjob/fenced"
START_SECONDS = 400.0
PLACES = {"monitoring's": MONITORING, "KubeRay's": "default", "the operator's": SYSTEM}
STRANGER = "stranger"
DASHBOARD, CONTROL, SERVICE = 8265, 6379, 8080
"""Ports of Ray's dashboard and of its control service, and of the operator."""
HEADS = {PROGRESS_PORT, DESK_PORT, DASHBOARD, CONTROL}
REACHES = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor

def reached(address):
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 5).close()
    except OSError:
        return False
    return True

addresses = sys.argv[1:]
with ThreadPoolExecutor() as pool:
    print(*[address for address, is_open in zip(addresses, pool.map(reached, addresses)) if is_open])
"""


def open_ports(room: Namespace, name: str, host: str, ports: set[int]) -> set[int]:
    """Those of a host's ports that a pod connects to; packets that nobody may send are lost, without an answer."""
    addresses = [f"{host}:{port}" for port in sorted(ports)]
    found = room.kubectl("exec", name, "--", "python", "-c", REACHES, *addresses).split()
    return {int(address.rpartition(":")[2]) for address in found}


@contextmanager
def visited(room: Namespace, image: str) -> Iterator[Namespace]:
    """The namespace, with a pod in it that is nobody in particular."""
    room.apply(pod(STRANGER, {"image": image, "command": ["sleep", "infinity"]}))
    try:
        room.kubectl("wait", "--for=condition=Ready", f"pod/{STRANGER}", "--timeout=60s")
        yield room
    finally:
        room.delete("pod", STRANGER, "--grace-period=0", "--force")


@pytest.fixture(scope="module")
def strangers(installation: Installation, team: Namespace) -> Iterator[dict[str, Namespace]]:
    """The namespaces that the policies tell apart, with a stranger in each."""
    image = "{repository}:{tag}".format(**installation.values["image"])
    cluster = installation.cluster
    rooms = {name: Namespace(room, cluster) for name, room in PLACES.items()} | {"the team's own": team}
    with ExitStack() as stack:
        rooms["another"] = stack.enter_context(namespace(cluster, "elsewhere"))
        yield {name: stack.enter_context(visited(room, image)) for name, room in rooms.items()}


@pytest.fixture(scope="module")
def training(team: Namespace) -> Iterator[Namespace]:
    """The namespace, with a job at work that takes longer than all tests here."""
    _, _, name = JOB.partition("/")
    job = corpora.endless(name)
    job["spec"]["compute"] |= {"workers": 1}
    team.apply(job)
    team.wait_for_step(JOB, 1, START_SECONDS)
    yield team
    team.delete(JOB)
    # Kubernetes looks at a namespace that ends with pods in it again only after half the time that these may take.
    team.kubectl("wait", "--for=delete", "--timeout=120s", "pods", "-l", f"pretune.dev/name={name}")


def address_of(made: Document) -> str:
    address: str = made["status"]["podIP"]
    return address


def operator(cluster: Cluster) -> Document:
    """The operator's pod."""
    [found] = Namespace(SYSTEM, cluster).items("pods", "-l", "app.kubernetes.io/component=operator")
    return found


@pytest.mark.parametrize(
    ("place", "ports"),
    [
        ("the team's own", set()),
        ("another", set()),
        ("monitoring's", {PROGRESS_PORT}),
        ("the operator's", {PROGRESS_PORT}),
        ("KubeRay's", {DASHBOARD}),
    ],
)
def test_a_jobs_pods_are_reached_by_those_alone_that_need_them(
    training: Namespace, strangers: dict[str, Namespace], place: str, ports: set[int]
) -> None:
    [head], [worker] = training.pods(JOB, "head"), training.pods(JOB, "worker")
    assert open_ports(strangers[place], STRANGER, address_of(head), HEADS) == ports
    assert open_ports(training, worker["metadata"]["name"], address_of(head), HEADS) == HEADS, "they are open"


def test_the_operator_is_reached_by_prometheus_alone(
    installation: Installation, strangers: dict[str, Namespace]
) -> None:
    address = address_of(operator(installation.cluster))
    reached = {place: open_ports(found, STRANGER, address, {SERVICE}) for place, found in strangers.items()}
    assert [place for place, ports in reached.items() if ports] == ["monitoring's"]


def test_the_operator_reaches_nothing_but_progress_names_and_the_api_server(
    installation: Installation, training: Namespace, strangers: dict[str, Namespace]
) -> None:
    system, name = Namespace(SYSTEM, installation.cluster), operator(installation.cluster)["metadata"]["name"]
    [head] = training.pods(JOB, "head")
    assert open_ports(system, name, address_of(head), HEADS) == {PROGRESS_PORT}
    store, ports = installation.s3.address, {installation.s3.port}
    assert open_ports(strangers["another"], STRANGER, store, ports) == ports, "it is open"
    assert open_ports(system, name, store, ports) == set()
    assert open_ports(system, name, "kubernetes.default.svc", {443}) == {443}
