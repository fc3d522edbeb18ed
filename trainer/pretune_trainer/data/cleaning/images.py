"""Images that are not worth learning from."""

from pretune_api.cleaning import ImageFilter
from pretune_trainer.data.cleaning.reasons import Reason
from pretune_trainer.data.example import content_of
from pretune_trainer.data.images import decode


def judge_image(value: object, rules: ImageFilter) -> Reason | None:
    """Why the image in a column is dropped; None if it stays."""
    try:
        image = decode(content_of(value) or b"")
    except ValueError:
        return Reason.UNDECODABLE
    return Reason.SMALL_IMAGE if min(image.size) < rules.smallest_side else None
