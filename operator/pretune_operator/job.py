"""A job as the operator holds it: the user's spec, what Kubernetes says of the resource, and what status said last."""

from dataclasses import dataclass, field

from pretune_api.jobs import Job, JobSpec
from pretune_api.status import Status


@dataclass(frozen=True)
class JobView:
    """One job at one moment."""

    resource: Job
    """What its user wrote, parsed."""
    uid: str
    namespace: str
    generation: int
    """metadata.generation, which every change of the spec raises."""
    status: Status = field(default_factory=Status)
    """What the last decision wrote; empty before the first."""
    deleting: bool = False
    """Whether it has a deletion timestamp."""
    labels: dict[str, str] = field(default_factory=dict)
    """Labels of the resource, Kueue's among them."""

    @property
    def spec(self) -> JobSpec:
        """What is wanted."""
        return self.resource.spec

    @property
    def reference(self) -> str:
        """KIND/NAME, as other jobs of the namespace refer to it."""
        return f"{self.resource.kind}/{self.resource.metadata.name}"
