"""The command answers at once, and ends with one sentence and a status that scripts understand."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from pretune_api.names import ExitCode
from pretune_cli.__main__ import main
from pretune_trainer.errors import NumericalError, StopRequestedError
from support.job_files import continued, finetune, pretrain, write

HEAVY = {"torch", "transformers", "ray", "pyarrow", "peft", "pydantic", "ruamel", "numpy", "rich"}


COMMANDS = ("run", "validate", "preflight", "render", "submit", "status", "logs", "report")


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_imports_nothing_that_takes_time(arguments: list[str]) -> None:
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('IMPORTED', *{name.partition('.')[0] for name in sys.modules}))\n"
        f"from pretune_cli.__main__ import main\nmain({arguments})"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    text, _, imported = shown.partition("IMPORTED")
    assert "usage: pretune" in text
    assert "argparse" in imported.split()
    assert HEAVY.isdisjoint(imported.split())


EXTRAS = ("torch", "numpy", "pyarrow", "obstore", "kopf", "kubernetes", "prometheus_client")


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        (["validate", "FILE"], ExitCode.OK, ""),
        (["run", "FILE"], ExitCode.USER_ERROR, " is not installed; pip install 'pretune[finetune]'\n"),
        (["logs", "FILE"], ExitCode.USER_ERROR, " is not installed; pip install 'pretune[finetune]'\n"),
    ],
    ids=["validate", "run", "logs"],
)
def test_without_extras_jobs_can_be_validated_and_what_needs_them_says_so(
    tmp_path: Path, command: list[str], status: int, says: str
) -> None:
    file = write(tmp_path / "job.yaml", finetune("chat", "in-the-cluster"))
    words = [str(file) if word == "FILE" else word for word in command]
    program = (
        f"import sys\nsys.modules.update(dict.fromkeys({EXTRAS}))\n"
        f"from pretune_cli.__main__ import main\nsys.exit(main({words}))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == status, ended.stderr
    assert ended.stderr.count("\n") == says.count("\n")
    assert ended.stderr.endswith(says)


def test_validate_names_what_is_ok_and_everything_that_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "jobs.yaml", pretrain("good"), pretrain("bad").replace("10,", "0,"))
    assert main(["validate", str(file)]) == ExitCode.USER_ERROR
    shown = capsys.readouterr()
    assert shown.out == "PretrainJob/good: ok\n"
    assert shown.err == f"{file}: PretrainJob/bad: spec.training.maxSteps: 0 is too small; write 1 or more\n"


def test_validate_takes_a_parent_elsewhere_for_granted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(write(tmp_path / "job.yaml", finetune("chat", "in-the-cluster")))]) == ExitCode.OK
    assert capsys.readouterr().out == "FinetuneJob/chat: ok\n"


def test_validate_refuses_a_circle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "jobs.yaml", continued("a", "b"), continued("b", "a"))
    assert main(["validate", str(file)]) == ExitCode.USER_ERROR
    assert "takes its model or tokenizer from itself" in capsys.readouterr().err


def test_validate_refuses_to_learn_from_what_the_job_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "job.yaml", pretrain("general"))
    assert main(["validate", str(file), "--set", f"spec.data.train[0].uri={tmp_path.parent}"]) == ExitCode.USER_ERROR
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"{file}: PretrainJob/general: spec.data.train[0].uri: file://{tmp_path.parent}")


def test_validate_judges_what_set_has_made_of_a_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "job.yaml", pretrain("general"))
    assert main(["validate", str(file), "--set", "spec.training.seed=-1"]) == ExitCode.USER_ERROR
    assert "spec.training.seed: -1 is too small; write 0 or more" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--workers", "0"], ["--workers", "two"], ["--metrics-port", "70000"], []])
def test_options_that_cannot_be_meant_are_a_users_error(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["run", *(["job.yaml"] if wrong else []), *wrong])
    assert caught.value.code == ExitCode.USER_ERROR


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        (NumericalError("the loss is not finite at step 7"), ExitCode.FAILED, "the loss is not finite at step 7\n"),
        (StopRequestedError("stopped; run again to go on"), ExitCode.STOPPED, "stopped; run again to go on\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_a_command_ends_in_one_sentence_and_its_status(
    ending: BaseException,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def end(*_: object) -> int:
        raise ending

    monkeypatch.setattr("pretune_cli.validate.validate", end)
    assert main(["validate", "job.yaml"]) == status
    assert capsys.readouterr().err == said


def test_a_reader_who_has_seen_enough_is_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "job.yaml", pretrain("general"))
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as unread:
        monkeypatch.setattr("sys.stdout", unread)
        assert main(["validate", str(file)]) == 141


def test_an_output_that_is_full_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "job.yaml", pretrain("general"))
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert main(["validate", str(file)]) == ExitCode.FAILED
    assert capsys.readouterr().err == "cannot write to standard output: No space left on device\n"


def test_an_output_of_few_characters_gets_escapes_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = pretrain("general").replace("./corpus", "s3://corpora").replace("../out/", "s3://models")
    with (tmp_path / "shown").open("w", encoding="ascii") as shown:
        monkeypatch.setattr("sys.stdout", shown)
        assert main(["render", str(write(tmp_path / "größe.yaml", job))]) == ExitCode.OK
    assert r"gr\xf6\xdfe.yaml" in (tmp_path / "shown").read_text()


def test_where_nobody_can_be_told_the_status_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "job.yaml", pretrain("general").replace("10,", "0,"))
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stderr", full)
        assert main(["validate", str(file)]) == ExitCode.USER_ERROR


def test_closed_streams_are_no_mistake(tmp_path: Path) -> None:
    file = write(tmp_path / "job.yaml", pretrain("general").replace("10,", "0,"))
    command = f"{sys.executable} -m pretune_cli validate {file} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == ExitCode.USER_ERROR


def test_without_arguments_every_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == ExitCode.OK
    assert set(COMMANDS) <= set(capsys.readouterr().out.split())


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == ExitCode.OK
    assert capsys.readouterr().out == f"pretune {version('pretune')}\n"


def test_a_misspelt_file_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    assert main(["report", "job"]) == ExitCode.USER_ERROR
    said = capsys.readouterr().err
    assert said.startswith("job: there is no such file or folder, and no cluster to look for a job of that name: ")
    assert said.endswith("; set KUBECONFIG to the kubeconfig of a cluster\n")
