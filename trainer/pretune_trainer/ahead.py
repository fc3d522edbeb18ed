"""Items worked on before their turn: where each waits for a store, several wait at once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(do: Callable[[T], R], items: Iterable[T], at_once: int) -> Iterator[R]:
    """What `do` makes of each item, in order; that of the next ones is made meanwhile, in threads: `at_once` in all."""
    with ThreadPoolExecutor(at_once) as pool:
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                if len(pending) == at_once:
                    yield pending.popleft().result()
                pending.append(pool.submit(do, item))
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
