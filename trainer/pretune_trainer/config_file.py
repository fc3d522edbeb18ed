"""The file in which a run config reaches a trainer on a cluster."""

from pathlib import Path

from pydantic import ValidationError

from pretune_api.run_config import RunConfig
from pretune_trainer.errors import UserError


def read_config(path: Path) -> RunConfig:
    """The run config in a file.

    Raises:
        UserError: it cannot be read, or is none that this version knows.
    """
    try:
        return RunConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        sentence = f"{first['msg']}; trainer and operator must have the same version"
        raise UserError(f"{path} {where}", sentence) from error
