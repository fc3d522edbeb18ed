"""Which trainer image a job's pods get.

A job goes on with the one that it began with: another version may read its data differently, or refuse its checkpoints.
"""

from pretune_operator.draft import Draft
from pretune_operator.job import JobView
from pretune_operator.observed import SeenAttempt
from pretune_operator.records import ongoing, with_current
from pretune_operator.settings import Settings


def image_of(job: JobView, settings: Settings) -> str:
    """The image of the next attempt, and of a preflight before it."""
    return job.spec.compute.image or job.status.image or configured(job, settings)


def configured(job: JobView, settings: Settings) -> str:
    """The image that the administrator has set for the job's kind."""
    return settings.images.pretrain if job.resource.kind == "PretrainJob" else settings.images.finetune


def kept(job: JobView, draft: Draft, attempt: SeenAttempt | None) -> Draft:
    """The draft that keeps the image of the current attempt once it has had a run, unless the job names its own.

    Before, nothing has come of the image: one that cannot be pulled is not kept.
    """
    record = ongoing(draft.status)
    if attempt is None or record.image or not record.runs:
        return draft
    draft = with_current(draft, record.model_copy(update={"image": attempt.image}))
    return draft if draft.status.image or job.spec.compute.image else draft.sets(image=attempt.image)
