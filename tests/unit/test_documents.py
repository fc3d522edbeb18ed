"""Jobs come out of files as their authors meant them, or with everything that is wrong."""

from pathlib import Path

import pytest

from pretune_cli.documents import InvalidFilesError, file_uri, load, read
from support.job_files import continued, finetune, pretrain, write


def problems(*files: Path, overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(InvalidFilesError) as caught:
        load(files, overrides)
    return str(caught.value).splitlines()


def test_jobs_of_several_files_come_in_order_and_know_where_they_stood(tmp_path: Path) -> None:
    chain = write(tmp_path / "chain.yaml", pretrain("general"), "# nothing here\n", continued("domain", "general"))
    last = write(tmp_path / "last.yaml", finetune("chat", "domain"))
    assert [(document.name, document.file, document.number) for document in load([chain, last])] == [
        ("PretrainJob/general", chain, 1),
        ("PretrainJob/domain", chain, 3),
        ("FinetuneJob/chat", last, 1),
    ]


def test_local_paths_are_meant_from_the_folder_of_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "jobs" / "job.yaml", pretrain("general"))
    (document,) = load([file])
    assert document.job.spec.data.train[0].uri == f"file://{tmp_path}/jobs/corpus/*.jsonl"
    assert document.job.spec.storage.uri == f"file://{tmp_path}/out"


@pytest.mark.parametrize(
    ("written", "uri"),
    [
        ("./x", "file:///jobs/x"),
        ("x/*.parquet", "file:///jobs/x/*.parquet"),
        ("../x", "file:///x"),
        ("/data/x", "file:///data/x"),
        ("100%.txt", "file:///jobs/100%25.txt"),
        ("a%20b.jsonl", "file:///jobs/a%2520b.jsonl"),
        ("~/x", f"file://{Path.home()}/x"),
        ("~nobody-here/x", "file:///jobs/~nobody-here/x"),
        ("s3://bucket/x", "s3://bucket/x"),
        ("file:///x", "file:///x"),
        ("s3:/typo", "s3:/typo"),
    ],
)
def test_a_path_becomes_a_uri_and_what_has_a_scheme_stays(written: str, uri: str) -> None:
    assert file_uri(written, Path("/jobs")) == uri


def test_an_override_changes_every_job_that_has_the_field(tmp_path: Path) -> None:
    file = write(tmp_path / "chain.yaml", pretrain("general"), finetune("chat", "general"))
    jobs = load([file], ["spec.training.maxSteps=1e2", "spec.method={lora: {rank: 4}}", "spec.earlyStopping=null"])
    assert [document.job.spec.training.max_steps for document in jobs] == [100, 100]
    method = jobs[1].job.model_dump()["spec"]["method"]
    assert method["lora"]["rank"] == 4


def test_an_override_of_a_part_of_a_choice_changes_the_jobs_that_have_made_it(tmp_path: Path) -> None:
    file = write(tmp_path / "chain.yaml", pretrain("general"), finetune("chat", "general"))
    settings = ["spec.model.architecture.config.hidden_size=64", "spec.tokenizer.train.vocabSize=300"]
    general, chat = (document.job.spec for document in load([file], settings))
    assert general.model.architecture is not None
    assert general.model.architecture.config == {"hidden_size": 64}
    assert (chat.model.architecture, chat.tokenizer) == (None, None)


def test_an_override_of_a_choice_that_no_job_has_made_makes_it(tmp_path: Path) -> None:
    file = write(tmp_path / "chain.yaml", pretrain("general"), finetune("chat", "general"))
    jobs = load([file], ["spec.method.lora.rank=4"])
    assert jobs[1].job.model_dump()["spec"]["method"]["lora"]["rank"] == 4


def test_an_override_reaches_into_lists_and_into_free_form_fields(tmp_path: Path) -> None:
    file = write(tmp_path / "job.yaml", pretrain("general"))
    settings = ["spec.data.train[0].column=body", "spec.model.architecture.config.hidden_size=64"]
    (document,) = load([file], settings)
    assert document.job.spec.data.train[0].column == "body"
    assert document.job.spec.model.architecture is not None
    assert document.job.spec.model.architecture.config == {"hidden_size": 64}


def test_a_path_in_an_override_is_meant_from_where_the_command_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "jobs" / "job.yaml", pretrain("general"))
    monkeypatch.chdir(tmp_path)
    (document,) = load([file], ["spec.storage.uri=here"])
    assert document.job.spec.storage.uri == f"file://{tmp_path}/here"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "spec.training.maxStep=1",
            "--set spec.training.maxStep: unknown field 'maxStep'; did you mean maxSteps?",
        ),
        (
            "maxSteps=1",
            "--set maxSteps: unknown field 'maxSteps'; a path begins with spec, such as spec.training.maxSteps=100",
        ),
        ("spec.data.train[3].uri=x", "--set spec.data.train[3].uri: there is no item [3]"),
        ("spec.training[0]=x", "--set spec.training[0]: there is no item [0]"),
        (
            "spec.storage.uri.scheme=x",
            "--set spec.storage.uri.scheme: the value before 'scheme' has no fields",
        ),
        (
            "spec.training.maxSteps",
            "--set spec.training.maxSteps: is not of the form path=value, such as spec.training.maxSteps=100",
        ),
        ("spec..x=1", "--set spec..x=1: is not of the form path=value, such as spec.training.maxSteps=100"),
        (
            "spec.training=[",
            "--set spec.training:1: is not valid YAML: expected the node content, but found '<stream end>'",
        ),
    ],
)
def test_an_override_that_cannot_be_meant_is_told_why(tmp_path: Path, override: str, says: str) -> None:
    file = write(tmp_path / "job.yaml", pretrain("general"))
    assert problems(file, overrides=(override,)) == [says]


def test_all_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", "- 1\n"),
        write(tmp_path / "job.yaml", pretrain("general").replace("maxSteps: 10", "maxSteps: 0, epoch: 1")),
        write(tmp_path / "empty.yaml", "# nothing\n"),
        write(tmp_path / "broken.yaml", "a: [\n"),
        tmp_path / "missing.yaml",
        tmp_path,
    ]
    assert sorted(line.replace(f"{tmp_path}/", "") for line in problems(*files)) == [
        f"{tmp_path}: is a folder; name the files in it, such as *.yaml",
        "broken.yaml:2: is not valid YAML: expected the node content, but found '<stream end>'",
        "empty.yaml: contains no job; write a PretrainJob or a FinetuneJob",
        "job.yaml: PretrainJob/general: spec.training.epoch: unknown field; did you mean epochs?",
        "job.yaml: PretrainJob/general: spec.training.maxSteps: 0 is too small; write 1 or more",
        'map.yaml: ConfigMap/a: kind: unknown kind "ConfigMap"; known: PretrainJob, FinetuneJob',
        "map.yaml: document 2: a job is a mapping with apiVersion, kind, metadata and spec, not [1]",
        "missing.yaml: there is no such file; check its path",
    ]


def test_good_jobs_are_read_beside_bad_ones(tmp_path: Path) -> None:
    file = write(tmp_path / "jobs.yaml", pretrain("good"), pretrain("Bad"))
    reading = read([file])
    assert [document.name for document in reading.documents] == ["PretrainJob/good"]
    assert len(reading.problems) == 1


def test_the_same_job_twice_is_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "a.yaml", pretrain("general"), finetune("general", "general"))
    second = write(tmp_path / "b.yaml", pretrain("general"))
    assert problems(first, second) == [
        f"{second} document 1: PretrainJob/general is already defined in {first} document 1; rename one of them"
    ]
