"""What a cluster does not let a job do that is valid."""


class UnfitError(Exception):
    """A job cannot run on this cluster as it is; a sentence for its user that names the field and what would fit."""


class RefusedError(Exception):
    """The cluster forbids what was to be made, and will again as long as nothing changes."""
