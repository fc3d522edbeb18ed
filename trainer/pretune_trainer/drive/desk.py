"""The board's guarded port, as driver and ranks see it."""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pretune_api.names import DESK_FILE_VARIABLE
from pretune_trainer.drive.wire import Ending, Order, ending_from_json, event_to_json
from pretune_trainer.report import Event

if TYPE_CHECKING:
    from pretune_api.run_config import RunConfig

LONGEST_WAIT: Final = 10.0
"""Seconds that the board keeps a request waiting before it answers `not yet`."""

_TIMEOUT: Final = 30.0
_SPARE: Final = 5.0
"""Seconds beyond the time asked for in which a board that is there answers whether it is at rest."""
_PATIENCE: Final = 60.0
"""Seconds that driver and ranks, which need the board, keep asking for it: its machine may stand still for a while."""

# The board is in the cluster, or on this machine: never behind a proxy.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class BoardLostError(Exception):
    """The board does not answer."""


@dataclass(frozen=True)
class Desk:
    """A client of one board. Small enough to travel to the ranks."""

    url: str
    """Address of the guarded port, such as http://127.0.0.1:8081."""
    token: str
    """The board's bearer token."""
    group: str = ""
    """Names the group of ranks that speaks; the driver is in none."""

    def put(self, config: "RunConfig") -> int:
        """Add an order; returns its number."""
        job = config.job.model_dump() | {"attempt": config.attempt}
        document = {"job": job, "stage": config.stage, "config": config.model_dump(mode="json")}
        number: int = self._post("/orders", document)[1]["number"]
        return number

    def close(self) -> None:
        """There will be no more orders."""
        self._post_patiently("/close")

    def stop(self) -> None:
        """Ask the ranks to commit and leave."""
        self._post("/stop")

    def next_order(self) -> Order | None:
        """Wait for the order to obey; None when there will be no more for this group."""
        while True:
            status, document = self._post_patiently("/order", {"group": self.group})
            if status != HTTPStatus.ACCEPTED:
                return Order(**document) if status == HTTPStatus.OK else None

    def tell(self, number: int, events: list[Event]) -> bool:
        """Pass on events of an order; returns whether the ranks shall stop.

        Raises:
            BoardLostError: the board does not answer; it is not asked again.
        """
        document = {"number": number, "events": [event_to_json(event) for event in events], "group": self.group}
        stop: bool = self._post("/events", document)[1]["stop"]
        return stop

    def end(self, number: int, ending: Ending) -> None:
        """Say how an order ended."""
        self._post_patiently("/ending", {"number": number, "ending": asdict(ending), "group": self.group})

    def ending(self, number: int, wait: float) -> Ending | None:
        """How an order ended; None if it has not within `wait` seconds."""
        status, document = self._post_patiently("/endings", {"number": number, "wait": wait})
        return ending_from_json(document) if status == HTTPStatus.OK else None

    def at_rest(self, wait: float) -> bool:
        """Whether no order waits or is at work; asks for at most `wait` seconds, and `LONGEST_WAIT`."""
        at_rest: bool = self._post("/rest", {"wait": wait}, wait + _SPARE)[1]["atRest"]
        return at_rest

    def commits(self) -> int:
        """Checkpoints that ranks have committed so far, of all orders."""
        commits: int = self._post("/commits")[1]["commits"]
        return commits

    def leave_address(self) -> None:
        """Write down, where the pod's environment says so, for the hook that drains it, where the desk is."""
        if file := os.environ.get(DESK_FILE_VARIABLE):
            Path(file).write_text(self.url, encoding="utf-8")

    def _post_patiently(self, path: str, body: object = None) -> tuple[int, Any]:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return self._post(path, body)
            except BoardLostError as error:
                refused = isinstance(error.__cause__, urllib.error.HTTPError)
                if refused or time.monotonic() > deadline:
                    raise
                time.sleep(1.0)

    def _post(self, path: str, body: object = None, timeout: float = _TIMEOUT) -> tuple[int, Any]:
        request = urllib.request.Request(  # noqa: S310  # the address is ours
            self.url + path,
            method="POST",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}"},
        )
        try:
            with _opener.open(request, timeout=timeout) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except (OSError, http.client.HTTPException) as error:
            raise BoardLostError(f"the board at {self.url} does not answer {path}: {error}") from error
