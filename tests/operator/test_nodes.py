"""Which nodes are asked for, and how often."""

from pretune_operator.cluster.client import ApiError
from pretune_operator.cluster.nodes import Nodes


class Asked:
    """An API server that knows one node, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.names: list[str] = []

    def get(self, resource: object, namespace: None, name: str) -> dict[str, object]:
        self.names.append(name)
        if name != "there":
            raise ApiError(404, "NotFound", f'nodes "{name}" not found')
        return {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}


def test_a_node_that_is_heard_of_is_asked_for_again_soon_and_a_lost_one_after_a_minute() -> None:
    server = Asked()
    nodes = Nodes(server, lambda: server.now)  # type: ignore[arg-type]
    for server.now in (0.0, 9.0, 11.0, 59.0, 61.0):
        assert not nodes.lost("there")
        assert nodes.lost("gone")
    assert [server.names.count(name) for name in ("there", "gone")] == [3, 2]
