"""What would end a run is said before it takes GPUs, each in one sentence with its field, and all of it at once."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch

from pretune_api.manifest import Manifest
from pretune_api.model import Architecture
from pretune_api.names import Cause, ExitCode
from pretune_api.problems import parse
from pretune_api.run_config import Folder, Parent, RunConfig
from pretune_api.storage import Storage
from pretune_trainer.data.sources import OpenedSource, SourceFile
from pretune_trainer.errors import UserError
from pretune_trainer.inputs import Design
from pretune_trainer.optim import make_optimizer, optimizer_tensors
from pretune_trainer.parallel import Ranks
from pretune_trainer.parents import find_parent
from pretune_trainer.preflight.__main__ import main
from pretune_trainer.preflight.checks import check_model, check_storage, check_task, check_tokenizer, read_source
from pretune_trainer.preflight.findings import Checked, Finding, exit_code, message
from pretune_trainer.preflight.memory import activations, held
from pretune_trainer.preflight.run import preflight
from pretune_trainer.storage.commit import commit
from pretune_trainer.storage.store import Store
from support.jobs import classification, finetune, pretrain, write_rows
from support.language import TINY, paragraphs, small_tokenizer
from support.s3 import S3Server
from support.specs import listed

UNKNOWN = "not known before PretrainJob/general has finished"


def by_check(findings: Sequence[Finding]) -> dict[str, Finding]:
    """The findings by check; of several of one, the first that is not ok."""
    found: dict[str, Finding] = {}
    for finding in sorted(findings, key=lambda finding: finding.ok is True):
        found.setdefault(finding.check, finding)
    return found


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A language model with 512 entries and 64 positions, in a folder that nobody has committed."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("parent")
    small_tokenizer().save_pretrained(folder)
    config = LlamaConfig(**TINY["llama"], vocab_size=512, max_position_embeddings=64)
    LlamaForCausalLM(config).save_pretrained(folder)
    return Folder(uri=folder.as_uri())


@pytest.mark.parametrize(("document", "says"), listed("refused_at_preflight"))
def test_an_architecture_that_transformers_does_not_take_is_refused_with_its_sentence(
    document: dict[str, Any], says: str
) -> None:
    from pretune_trainer.model.configuration import make_config

    spec = parse(document).spec
    assert spec.model.architecture is not None
    with pytest.raises(UserError) as caught:
        make_config(spec.model.architecture, 512, spec.data.sequence_length, {})
    assert str(caught.value) == says


@pytest.mark.parametrize(
    ("kind", "sizes", "says"),
    [
        ("gpt2", {"n_head": 0}, "spec.model.architecture.config.n_head: is zero; write 1 or more"),
        ("gpt2", {"n_embd": 65}, "spec.model.architecture.config: `embed_dim` must be divisible by num_heads"),
        ("gptj", {"n_head": 5}, "spec.model.architecture.config: embed_dim must be divisible by num_attention_heads"),
    ],
)
def test_sizes_that_a_model_cannot_be_made_with_are_refused_by_its_type_in_a_sentence(
    tmp_path: Path, kind: str, sizes: dict[str, int], says: str
) -> None:
    small = {"n_embd": 64, "n_layer": 2, "n_head": 4}
    config = pretrain(tmp_path, model={"architecture": {"type": kind, "config": small | sizes}})
    finding = by_check(preflight(config))["model"]
    assert finding.ok is False
    assert f"{finding.place}: {finding.sentence}".startswith(says)


def test_a_whole_number_will_do_where_another_is_wanted_because_json_writes_both_alike() -> None:
    from pretune_trainer.model.configuration import make_config

    config = make_config(Architecture(type="llama", config={"rms_norm_eps": 1, "num_hidden_layers": 2}), 512, 64, {})
    assert config.rms_norm_eps == 1.0
    assert config.num_hidden_layers == 2


def test_a_job_that_can_run_passes_every_check_and_leaves_nothing_behind(tmp_path: Path) -> None:
    findings = preflight(pretrain(tmp_path))
    assert all(finding.ok for finding in findings), [str(finding) for finding in findings]
    checks = ["storage", "spec", "source", "tokenizer", "task", "model", "rows", "batch", "memory"]
    assert [finding.check for finding in findings] == checks
    assert exit_code(findings) == ExitCode.OK
    assert [path for path in (tmp_path / "storage").rglob("*") if path.is_file()] == []


def test_a_file_that_is_both_learnt_from_and_judged_on_is_refused(tmp_path: Path) -> None:
    config = pretrain(tmp_path)
    uri = config.data.train[0].uri
    finding = by_check(preflight(pretrain(tmp_path, data__validation={"sources": [{"uri": uri}]})))["source"]
    assert (finding.ok, finding.place) == (False, "spec.data.validation.sources[0].uri")
    assert "the model would be judged on what it has learnt" in finding.sentence


def test_the_files_of_a_source_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = classification(tmp_path).data.train[0].uri
    config = classification(tmp_path, data__validation={"sources": [{"uri": uri}]})
    files, listed = OpenedSource.files, list[str]()

    def counted(source: OpenedSource) -> list[SourceFile]:
        listed.append(source.where)
        return files(source)

    monkeypatch.setattr(OpenedSource, "files", counted)
    preflight(config)
    assert sorted(listed) == ["spec.data.train[0]", "spec.data.validation.sources[0]"]


def test_sources_are_read_beside_each_other_and_told_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uris = [write_rows(tmp_path / f"{name}.jsonl", [{"text": "one and another"}] * 8) for name in "ab"]
    config = pretrain(tmp_path, data__train=[{"uri": uri} for uri in uris])
    files, both = OpenedSource.files, Barrier(len(uris))

    def awaited(source: OpenedSource) -> list[SourceFile]:
        both.wait(timeout=30)
        return files(source)

    monkeypatch.setattr(OpenedSource, "files", awaited)
    read = [finding for finding in preflight(config) if finding.check == "source"]
    assert [(finding.ok, finding.place) for finding in read] == [
        (True, "spec.data.train[0]"),
        (True, "spec.data.train[1]"),
    ]


def test_a_store_is_told_by_what_it_guarantees(tmp_path: Path, s3: S3Server) -> None:
    location = s3.new_folder()
    config = pretrain(tmp_path)
    config = config.model_copy(update={"storage": Storage(**location.model_dump())})
    store, sentence = check_storage(config)
    assert sentence.endswith("can be written, read and deleted; the store has no conditional puts")  # rclone has none
    assert store.list() == []


def test_an_existing_model_is_verified_and_made_without_its_weights(tmp_path: Path, parent: Folder) -> None:
    found = by_check(preflight(classification(tmp_path, parent, method={"freeze": {}})))
    assert all(finding.ok for finding in found.values()), [str(finding) for finding in found.values()]
    assert found["parent"].sentence.startswith(f"{parent.uri} is intact: sha256:")
    assert found["model"].sentence.endswith(", 64 of them trained")  # the head: two labels of 32 channels


def test_the_weights_of_a_parent_are_verified_where_they_lie(
    tmp_path: Path, parent: Folder, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path))
    location = s3.new_folder()
    store = Store.open(location)
    for file in Path(parent.uri.removeprefix("file://")).iterdir():
        store.put(file.name, file)
    there, storage = Parent(folder=Folder(uri=location.uri)), Storage(**location.model_dump())
    found = find_parent(there, storage, Ranks(), "spec.model.from", "verified")
    here = {path.name for path in Path(found.source.name).iterdir()}
    assert here >= {"config.json", "tokenizer.json"}
    assert "model.safetensors" not in here
    whole = (s3.folder / location.uri.removeprefix("s3://") / "model.safetensors").read_bytes()
    store.put("model.safetensors", whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match="expected sha256:"):
        find_parent(Parent(folder=Folder(uri=location.uri, digest=found.digest)), storage, Ranks(), "spec", "verified")


def test_a_run_reads_a_parent_in_a_remote_store_once_and_refuses_one_that_is_damaged(
    tmp_path: Path, parent: Folder, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = s3.new_folder()
    store = Store.open(location)
    files = [store.put(file.name, file) for file in sorted(Path(parent.uri.removeprefix("file://")).iterdir())]
    commit(store, Manifest(content="artifact", files=files))
    there, storage = Parent(folder=Folder(uri=location.uri)), Storage(**location.model_dump())
    read: list[str] = []
    stream = Store.stream

    def noted(store: Store, path: str, size: int) -> Iterator[memoryview]:
        read.append(path)
        return stream(store, path, size)

    monkeypatch.setattr(Store, "stream", noted)
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "cache"))
    for where in ("spec.model.from", "spec.tokenizer"):
        assert find_parent(there, storage, Ranks(), where).digest == Manifest(content="artifact", files=files).digest
    assert read.count("model.safetensors") == 1
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "another machine"))
    whole = store.get("model.safetensors")
    store.put("model.safetensors", whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match=r"^spec.model.from: .* is damaged: model.safetensors has changed"):
        find_parent(there, storage, Ranks(), "spec.model.from")


def test_a_parent_of_another_digest_is_refused(tmp_path: Path, parent: Folder) -> None:
    other = Folder(uri=parent.uri, digest=f"sha256:{'0' * 64}")
    findings = preflight(classification(tmp_path, other))
    found = by_check(findings)
    assert "expected sha256:" in found["parent"].sentence
    assert found["parent"].cause == Cause.USER_ERROR
    assert found["source"].ok
    assert found["model"].sentence == "not known, because parent is wrong"
    assert exit_code(findings) == ExitCode.USER_ERROR


def test_one_failure_does_not_hide_the_others(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "labels.jsonl", iter([{"text": "a text", "label": "lang"}]))
    (tmp_path / "notes.txt").touch()
    config = finetune(
        tmp_path,
        {"sequenceClassification": {"labels": ["short", "long"]}},
        rows,
        model={"architecture": {"type": "llama", "config": {**TINY["llama"], "hidden_size": 33}}},
        storage__uri=(tmp_path / "notes.txt" / "storage").as_uri(),
    )
    findings = preflight(config)
    wrong = {finding.check: finding for finding in findings if finding.ok is False}
    assert list(wrong) == ["storage", "model", "rows"]
    assert "there is a file where a folder is needed" in wrong["storage"].sentence
    assert wrong["storage"].cause == Cause.STORAGE_DENIED
    assert wrong["model"].place == "spec.model.architecture.config"
    assert wrong["rows"].place.endswith("labels.jsonl row 1")
    assert "label 'lang' is not listed" in wrong["rows"].sentence
    assert exit_code(findings) == ExitCode.FAILED  # as the storage's, which comes first


def test_what_the_spec_and_the_sources_lack_is_said(tmp_path: Path) -> None:
    config = pretrain(tmp_path, training__tokens_per_step=32, data__train=[{"uri": (tmp_path / "none/*.txt").as_uri()}])
    found = by_check(preflight(config))
    assert found["spec"].sentence == "32 is less than one row of 64 tokens"
    assert found["source"].sentence.endswith("matches no file; check the path")
    assert found["tokenizer"].sentence == "not known, because source is wrong"


def test_what_depends_on_a_parent_that_has_not_finished_is_not_known(tmp_path: Path, parent: Folder) -> None:
    waiting = Folder(uri=parent.uri, job="PretrainJob/general")
    config = classification(tmp_path, parent)
    document = config.model_dump(exclude_none=True)
    document["model"] = document["tokenizer"] = {"parent": {"folder": waiting.model_dump(exclude_none=True)}}
    findings = preflight(RunConfig.model_validate(document), {"PretrainJob/general"})
    unknown = [finding.check for finding in findings if finding.sentence == UNKNOWN]
    assert unknown == ["parent", "tokenizer", "task", "model", "rows", "batch", "memory"]
    assert all(finding.ok for finding in findings if finding.check not in unknown)
    assert exit_code(findings) == ExitCode.OK


def test_a_vocabulary_that_few_rows_cannot_fill_is_not_refused(tmp_path: Path) -> None:
    found = by_check(preflight(pretrain(tmp_path, tokenizer__train={"vocabSize": 8_000})))
    assert found["tokenizer"].ok
    entries, width = 8_000, 32
    assert f"{2 * entries * width + 20_640:,} parameters" in found["model"].sentence


def test_what_has_no_effect_in_the_steps_that_are_asked_for_is_told(tmp_path: Path) -> None:
    asked = {"evaluation__every_steps": 8, "early_stopping": {"metric": "loss"}, "training__warmup_steps": 8}
    for more, told in (({}, True), ({"training__max_steps": 9}, False), ({"training__epochs": 3}, False)):
        finding = by_check(preflight(pretrain(tmp_path, **asked, **more)))["spec"]
        assert finding.ok
        for field in ("spec.training.warmupSteps: ", "spec.evaluation.everySteps: "):
            assert (field in finding.sentence) == told


def test_a_vocabulary_that_is_too_small_for_the_first_rows_is_refused(tmp_path: Path) -> None:
    found = by_check(preflight(pretrain(tmp_path, tokenizer__train={"vocabSize": 100})))
    assert found["tokenizer"].place == "spec.tokenizer.train.vocabSize"
    assert found["tokenizer"].sentence.startswith("100 entries are too few")


def test_rows_that_will_be_truncated_are_counted_where_the_tokenizer_is_known(tmp_path: Path, parent: Folder) -> None:
    found = by_check(preflight(classification(tmp_path, parent)))
    tokens = [len(small_tokenizer()(text[:400])["input_ids"]) for text in paragraphs()[:64]]
    lost = sum(1 for count in tokens if count > 64)
    assert found["rows"].sentence == f"64 rows yield 64 examples, {lost} of them truncated to 64 tokens"
    found = by_check(preflight(classification(tmp_path)))
    assert found["rows"].sentence == "64 rows yield 64 examples", "its tokenizer is not trained yet"


def designed(config: RunConfig) -> Design:
    """What a run config asks for, as preflight makes it."""
    from pretune_trainer.data.inputs import data_sources

    (source,) = data_sources(config.data)
    sample, said = read_source(config, source, 0)
    vocabulary, _ = check_tokenizer(config, [Checked(Finding("source", True, said, ""), sample)], None)
    assert config.model.architecture is not None
    made, _ = check_task(config, config.model.architecture, vocabulary)
    return made


@pytest.mark.parametrize("method", [{"full": {}}, {"lora": {"rank": 4}}])
@pytest.mark.parametrize("recomputed", [False, True])
def test_what_is_estimated_is_what_a_step_holds(tmp_path: Path, method: dict[str, Any], recomputed: bool) -> None:
    from pretune_trainer.data.example import Pack
    from pretune_trainer.step import Step

    config = classification(tmp_path, method=method, training__activation_checkpointing=recomputed)
    made = designed(config)
    examples = [{"ids": torch.arange(5, 64).int().numpy(), "labels": torch.zeros(1).int().numpy()}]
    batch = made.task.batch([Pack((examples[0],))])
    step = Step(made.make_model().model, made.task)
    optimizer = make_optimizer(step, config.training)
    kept = 0
    seen = {each.untyped_storage().data_ptr() for each in step.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        storage = tensor.untyped_storage()
        kept += 0 if storage.data_ptr() in seen else storage.nbytes()
        seen.add(storage.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = step(batch, batch.counts)
    loss.backward()
    optimizer.step()
    tuned, _ = check_model(made)
    found = held(tuned, config.training, ranks=1)
    assert found.weights == sum(each.nbytes for each in [*step.parameters(), *step.buffers()])
    assert found.gradients == sum(each.grad.nbytes for each in step.parameters() if each.grad is not None)
    assert found.optimizer == sum(each.nbytes for each in optimizer_tensors(step, optimizer).values())
    whole = activations(tuned, made.task, batch, config.training, 1)
    if recomputed:
        assert 0 < whole < kept
    else:
        assert whole == pytest.approx(kept, rel=0.15)


def test_ranks_share_weights_gradients_and_optimizer(tmp_path: Path) -> None:
    made = designed(pretrain(tmp_path))
    alone, shared = (held(check_model(made)[0], made.config.training, ranks) for ranks in (1, 8))
    for part in ("weights", "gradients", "optimizer"):
        assert getattr(shared, part) == pytest.approx(getattr(alone, part) / 8, rel=0.01)
    assert alone.gathered == 0
    assert shared.gathered > 0


def test_gradients_of_several_micro_batches_are_whole_on_each_rank_unless_the_model_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = designed(pretrain(tmp_path))
    tuned, training = check_model(made)[0], made.config.training
    alone, shared = (held(tuned, training, ranks, accumulates=True) for ranks in (1, 8))
    assert shared.gradients == alone.gradients == sum(each.nbytes for each in tuned.model.parameters())
    assert shared.optimizer == held(tuned, training, 8).optimizer
    monkeypatch.setattr("pretune_trainer.step._MOST_WHOLE_GRADIENTS", alone.gradients - 1)
    assert held(tuned, training, 8, accumulates=True) == held(tuned, training, 8)


def test_it_leaves_its_findings_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = pretrain(tmp_path, model={"architecture": {"type": "lama"}})
    (tmp_path / "run.json").write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    monkeypatch.setenv("PRETUNE_FINDINGS_FILE", str(tmp_path / "findings"))
    assert main([str(tmp_path / "run.json")]) == ExitCode.USER_ERROR
    left = json.loads((tmp_path / "findings").read_text())
    (wrong,) = [finding for finding in left["findings"] if finding["ok"] is False]
    assert wrong["check"] == "task"
    assert wrong["place"] == "spec.model.architecture.type"
    assert wrong["cause"] == "UserError"
    assert "task: wrong: spec.model.architecture.type: 'lama' is unknown" in capsys.readouterr().out


def test_failures_come_first_where_not_all_findings_fit(tmp_path: Path) -> None:
    good = [Finding("source", True, "ö" * 900, f"spec.data.train[{number}]") for number in range(20)]
    bad = Finding("memory", False, "too much", "spec.compute", Cause.USER_ERROR, ExitCode.USER_ERROR)
    text = message([*good, bad])
    assert len(text.encode()) <= 4096
    left = json.loads(text)
    assert left["findings"][0] == {**bad.to_json(), "cause": "UserError"}
    assert left["leftOut"] == 21 - len(left["findings"]) > 0
