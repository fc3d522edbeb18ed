"""What is wrong with a job that is valid, and yet cannot run on this cluster."""


class UnfitError(Exception):
    """A job cannot run on this cluster as it is; a sentence for its user that names the field and what would fit."""


class PoolError(UnfitError):
    """A job asks for a pool that it cannot have."""
