"""YAML means here what it means to kubectl."""

from pathlib import Path

import pytest

from pretune_cli import yaml
from pretune_trainer.errors import UserError


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("3e-4", 3e-4),
        ("1e4", 10_000.0),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0o10", 8),
        (".5", 0.5),
        ("'3e-4'", "3e-4"),
        ("1:30", "1:30"),
        ("2026-11-21", "2026-11-21"),
        ("2026-11-21T03:00:00Z", "2026-11-21T03:00:00Z"),
        ("yes", True),
        ("Off", False),
        ("n", False),
        ("'no'", "no"),
        ("true", True),
        ("~", None),
        ("", None),
        ("{a: 1}", {"a": 1}),
        ('{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
        ("=", "="),
    ],
)
def test_a_value_is_what_kubectl_takes_it_for(written: str, read: object) -> None:
    found = yaml.value(f"x: {written}", "job.yaml")
    assert found == {"x": read}
    assert isinstance(found, dict)
    assert type(found["x"]) is type(read)


def test_json_is_read_as_well_indented_with_tabs_or_not(tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text('{\n\t"kind": "PretrainJob",\n\t"spec": {"a":1}\n}\n')
    assert yaml.documents(file) == [{"kind": "PretrainJob", "spec": {"a": 1}}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2\n", ':2: is not valid YAML: found duplicate key "a" with value "2" (original value: "1")'),
        ("a: 1\nb: [1\nc: 2\n", ":3: is not valid YAML: expected ',' or ']', but got ':'"),
        ("a: 1\n\tb: 2\n", ":2: is not valid YAML: found character '\\t' that cannot start any token"),
        (
            "a: *.txt\n",
            ":1: is not valid YAML: found undefined alias '.txt'; put text that begins with *, such as a glob",
        ),
        ("\ta: 1\n", ":1: is not valid YAML: found character '\\t' that cannot start any token; indent with spaces"),
        ("a: .inf\n", ":1: is not valid YAML: .inf is not a number that JSON can represent"),
        ("a: !!python/name:os.system x\n", ":1: is not valid YAML: could not determine a constructor for the tag"),
        ("a: *nowhere\n", ":1: is not valid YAML: found undefined alias 'nowhere'"),
        ("a: \x01\n", ": is not valid YAML: unacceptable character #x0001: special characters are not allowed"),
    ],
)
def test_what_is_no_yaml_is_told_with_file_and_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        yaml.documents(file)
    assert str(caught.value).startswith(f"{file}{says}")


def test_a_file_that_cannot_be_read_is_told_why(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("a: é".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin.yaml: is not UTF-8 text"):
        yaml.documents(tmp_path / "latin.yaml")
    with pytest.raises(UserError, match=r"none.yaml: there is no such file; check its path"):
        yaml.documents(tmp_path / "none.yaml")


def test_what_is_nested_without_end_is_told_in_a_sentence() -> None:
    with pytest.raises(UserError, match=r"^--set: its lists and mappings are nested too deeply to be read; use fewer"):
        yaml.value("[" * 2_000 + "]" * 2_000, "--set")
