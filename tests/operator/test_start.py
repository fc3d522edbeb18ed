"""`python -m pretune_operator`: what it says of a configuration that it cannot use."""

from pathlib import Path

import pytest

from pretune_api.names import ExitCode
from pretune_operator.__main__ import main

SETTINGS = """\
images: {pretrain: "pretune.test/pretrain:1", finetune: "pretune.test/finetune:1"}
pools: {gpu: {}}
defaultPool: gpu
"""


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (None, "cannot be read: No such file or directory"),
        ("images: [", "is not valid YAML"),
        (SETTINGS + "pool: {}\n", "pool: Extra inputs are not permitted"),
        (SETTINGS.replace("defaultPool: gpu", "defaultPool: a100"), "defaultPool: there is no pool a100; known: gpu"),
    ],
)
def test_a_configuration_that_cannot_be_used_ends_it_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: str | None, says: str
) -> None:
    path = tmp_path / "settings.yaml"
    if settings is not None:
        path.write_text(settings)
    assert main(["--config", str(path)]) == ExitCode.USER_ERROR
    said = capsys.readouterr().err
    assert said.startswith(f"{path}: ")
    assert says in said
