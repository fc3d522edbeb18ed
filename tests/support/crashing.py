"""A store whose process dies at a chosen operation: everything before it has happened, nothing after it does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self, TypeVar

from pretune_api.manifest import File
from pretune_trainer.storage.store import Object, Store
from pretune_trainer.storage.upload import Data

T = TypeVar("T")


class Crash(BaseException):
    """The process has died."""


@dataclass
class Plan:
    """When to die: before operation `at`, or right after it. Once dead, nothing happens any more."""

    at: int | None = None
    after: bool = False
    operations: list[str] = field(default_factory=list)
    """What has been asked so far."""
    dead: bool = False

    def run(self, name: str, do: Callable[[], T]) -> T:
        if self.dead:
            raise Crash
        number = len(self.operations)
        self.operations.append(name)
        if number == self.at and not self.after:
            self.dead = True
            raise Crash
        result = do()
        if number == self.at:
            self.dead = True
            raise Crash
        return result


@dataclass(frozen=True)
class CrashingStore(Store):
    """A store that follows a plan, and so do its folders."""

    plan: Plan = field(default_factory=Plan)

    @classmethod
    def around(cls, store: Store, plan: Plan) -> Self:
        return cls(store.uri, store._bucket, store._path, plan)

    def behind(self) -> Store:
        """The same folder, for someone who is alive."""
        return Store(self.uri, self._bucket, self._path)

    def get(self, path: str) -> bytes:
        return self.plan.run(f"get {path}", lambda: super(CrashingStore, self).get(path))

    def get_ranges(self, path: str, spans: Sequence[tuple[int, int]]) -> Sequence[memoryview]:
        return self.plan.run(f"get {path}", lambda: super(CrashingStore, self).get_ranges(path, spans))

    def size(self, path: str) -> int:
        return self.plan.run(f"size {path}", lambda: super(CrashingStore, self).size(path))

    def put(self, path: str, data: Data) -> File:
        return self.plan.run(f"put {path}", lambda: super(CrashingStore, self).put(path, data))

    def create(self, path: str, data: bytes) -> None:
        # Within it, the parts of `create` are one operation.
        return self.plan.run(f"create {path}", lambda: self.behind().create(path, data))

    def list(self, prefix: str = "", after: str | None = None) -> list[Object]:
        return self.plan.run(f"list {prefix}", lambda: super(CrashingStore, self).list(prefix, after))

    def delete(self, path: str) -> None:
        return self.plan.run(f"delete {path}", lambda: super(CrashingStore, self).delete(path))
