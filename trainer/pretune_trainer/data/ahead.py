"""Items worked on before their turn: where each waits for a store, several wait at once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE: Final = 8
"""Items held in memory at once, such as images."""


def ahead(do: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """What `do` makes of each item, in order; that of the next ones is made meanwhile, in threads."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                if len(pending) == _AT_ONCE:
                    yield pending.popleft().result()
                pending.append(pool.submit(do, item))
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
