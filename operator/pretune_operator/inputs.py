"""A parent is resolved once, to a URI and a digest that status keeps; until then the job waits, and says why."""

from pretune_api.run_config import Folder
from pretune_api.status import ResolvedInput, Status
from pretune_operator.conditions import ConditionType, Reason
from pretune_operator.draft import Draft
from pretune_operator.job import JobView
from pretune_operator.observed import Observed, ParentState, SeenParent


def resolved(job: JobView, draft: Draft, seen: Observed) -> Draft:
    """The draft with every input that is to be had; its condition InputsResolved says whether that is all."""
    known = {known.job for known in draft.status.inputs}
    obstacles: list[tuple[Reason, str]] = []
    for key in [key for key in job.spec.parent_jobs() if key not in known]:
        parent = seen.parents.get(key, SeenParent(ParentState.MISSING))
        if obstacle := _obstacle(job, key, parent):
            obstacles.append(obstacle)
        elif parent.artifact is not None:
            found = ResolvedInput(job=key, uri=parent.artifact.uri, digest=parent.artifact.digest)
            draft = draft.sets(inputs=[*draft.status.inputs, found])
    if obstacles:
        why, message = max(obstacles, key=lambda obstacle: obstacle[0] == Reason.PARENT_CYCLE)
        return draft.says(ConditionType.INPUTS_RESOLVED, False, why, message)
    if not draft.status.inputs:
        return draft.says(ConditionType.INPUTS_RESOLVED, True, Reason.NO_PARENT, "The job has no parent.")
    return draft.says(ConditionType.INPUTS_RESOLVED, True, Reason.RESOLVED, _sentence(draft.status))


def folders(status: Status) -> dict[str, Folder]:
    """The resolved inputs, by KIND/NAME."""
    return {known.job: Folder(uri=known.uri, digest=known.digest, job=known.job) for known in status.inputs}


def _obstacle(job: JobView, key: str, parent: SeenParent) -> tuple[Reason, str] | None:
    """Why a parent cannot be resolved: a reason, and a sentence."""
    if job.reference in (key, *parent.parents):
        return Reason.PARENT_CYCLE, f"{key} depends on {job.reference} itself, so that neither can ever start."
    match parent.state:
        case ParentState.MISSING:
            return Reason.PARENT_MISSING, f"{key} does not exist in namespace {job.namespace}; create it."
        case ParentState.FAILED:
            said = f"{key} has failed; fix it and raise its spec.retry, and this job will proceed."
            return Reason.PARENT_FAILED, said
        case ParentState.RUNNING:
            return Reason.PARENT_RUNNING, f"{key} has not finished yet."
        case ParentState.SUCCEEDED if parent.artifact is None:
            said = f"{key} has succeeded, but its status.artifact is not valid; recreate {key}."
            return Reason.PARENT_FAILED, said
        case ParentState.SUCCEEDED:
            return None


def _sentence(status: Status) -> str:
    return f"Resolved {', '.join(f'{known.job} to {known.uri}' for known in status.inputs)}."
