"""Which nodes are asked for, and how often."""

from typing import Any

import pytest

from pretune_operator.cluster.client import ApiError, Client
from pretune_operator.cluster.kinds import Resource
from pretune_operator.cluster.nodes import Nodes


class Asked(Client):
    """An API server that knows one node, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.names: list[str] = []

    def get(self, resource: Resource, namespace: str | None, name: str) -> dict[str, Any]:
        self.names.append(name)
        if name != "there":
            raise ApiError(404, "NotFound", f'nodes "{name}" not found')
        return {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}


def test_a_node_that_is_heard_of_is_asked_for_again_soon_and_a_lost_one_after_a_minute() -> None:
    server = Asked()
    nodes = Nodes(server, lambda: server.now)
    for server.now in (0.0, 9.0, 11.0, 59.0, 61.0):
        assert not nodes.lost("there")
        assert nodes.lost("gone")
    assert [server.names.count(name) for name in ("there", "gone")] == [3, 2]


class Says(Client):
    """An API server that says the same of every node, or refuses."""

    def __init__(self, said: dict[str, str] | ApiError) -> None:
        self.said = said

    def get(self, resource: Resource, namespace: str | None, name: str) -> dict[str, Any]:
        if isinstance(self.said, ApiError):
            raise self.said
        return {"status": {"conditions": [{"type": "DiskPressure", "status": "Unknown"}, self.said]}}


@pytest.mark.parametrize(
    ("said", "lost"),
    [
        ({"type": "Ready", "status": "Unknown"}, True),
        ({"type": "Ready", "status": "False"}, False),
        ({"type": "Ready", "status": "True"}, False),
        (ApiError(403, "Forbidden", "an operator of some namespaces may not ask"), None),
    ],
    ids=str,
)
def test_a_node_is_lost_when_its_kubelet_is_not_heard_of_and_nobody_knows_where_nobody_may_ask(
    said: dict[str, str] | ApiError, lost: bool | None
) -> None:
    assert Nodes(Says(said)).lost("any") is lost


def test_what_the_api_server_does_not_say_of_a_node_is_not_made_up() -> None:
    with pytest.raises(ApiError):
        Nodes(Says(ApiError(500, "InternalError", "etcdserver: leader changed"))).lost("any")
