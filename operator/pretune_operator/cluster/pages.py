"""Lists of resources, page by page."""

from typing import Generic, TypeVar

from pydantic import BaseModel, Field

Item = TypeVar("Item")


class ListMeta(BaseModel):
    """What is said of a list itself."""

    version: int = Field(alias="resourceVersion")
    rest: str = Field(alias="continue", default="")
    """Asks for what comes after this page; empty on the last one."""


class Page(BaseModel, Generic[Item]):
    """Part of a list."""

    items: list[Item] | None
    """An empty list of metadata comes as null."""
    metadata: ListMeta


class Metadata(BaseModel):
    """What a census reads of a resource."""

    uid: str
    version: int = Field(alias="resourceVersion")


class Counted(BaseModel):
    """A resource in a census."""

    metadata: Metadata
