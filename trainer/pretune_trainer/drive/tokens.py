"""The desk's bearer token."""

import hashlib
import hmac
import os
import secrets
from typing import Final

TOKEN_VARIABLE: Final = "PRETUNE_BOARD_TOKEN"  # noqa: S105  # the name of a variable
_RAY_TOKEN_VARIABLE: Final = "RAY_AUTH_TOKEN"  # noqa: S105
_PURPOSE: Final = b"pretune desk"


def desk_token() -> str:
    """The token that was given; else one that every pod of this Ray cluster derives alike; else a new one.

    Deriving it spares a Secret per attempt, and tells nobody Ray's own: whoever has Ray's token may run anything.
    """
    if given := os.environ.get(TOKEN_VARIABLE):
        return given
    if of_ray := os.environ.get(_RAY_TOKEN_VARIABLE):
        return hmac.new(of_ray.encode(), _PURPOSE, hashlib.sha256).hexdigest()
    return secrets.token_urlsafe()
