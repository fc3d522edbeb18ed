"""The finished model: it loads with transformers alone, says the same, and says where it comes from."""

import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
)

from pretune_api.run_config import Folder, Parent, RunConfig, RunModel
from pretune_trainer.artifact import export, model_card, publish
from pretune_trainer.data.stream import held_out
from pretune_trainer.drive.reporting import open_sinks
from pretune_trainer.errors import StorageError, UserError
from pretune_trainer.inputs import gather_inputs, load_tokenizer
from pretune_trainer.methods.base import Tuned
from pretune_trainer.model.image_size import images_for
from pretune_trainer.model.origin import Source, model_type
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent, Start
from pretune_trainer.result import RankResult
from pretune_trainer.storage.finished import Facts, finished
from pretune_trainer.storage.runs import claim_run
from pretune_trainer.storage.store import Store
from support.jobs import classification, finetune, pretrain, write_corpus, write_rows
from support.language import TINY, paragraphs
from support.runs import named, path_of

TEXT = "The value of a name"
START = Start("causalLM", 1, 0, 8, 1000, 1000, 8, 8, 4)
ALONE = """
import json, sys
from importlib.abc import MetaPathFinder

class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.startswith("pretune"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, pipeline

def judge(kind, folder):
    model = {"lm": AutoModelForCausalLM, "label": AutoModelForSequenceClassification}[kind].from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(TEXT)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits
    if kind == "label":
        said = pipeline("text-classification", folder)(TEXT)[0]["label"]
    else:
        options = {"max_new_tokens": 5, "do_sample": False, "return_full_text": False}
        said = pipeline("text-generation", folder)(TEXT, **options)[0]["generated_text"]
    return {"ids": ids, "logits": logits.flatten().tolist(), "said": said}

TEXT, *artifacts = sys.argv[1:]
found = [judge(*artifact.split("=")) for artifact in artifacts]
assert not [name for name in sys.modules if name.startswith("pretune")]
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Made:
    """A job and its artifact."""

    config: RunConfig
    result: RankResult

    @property
    def path(self) -> Path:
        return Path(self.result.artifact_uri.removeprefix("file://"))

    @property
    def folder(self) -> Folder:
        return Folder(uri=self.result.artifact_uri, digest=self.result.artifact_digest)


def made(config: RunConfig) -> Made:
    return Made(config, run_rank(config, Ranks(), Silent()))


def uncommitted_copy(artifact: Path, folder: Path) -> Path:
    """A folder as anyone could have made it."""
    return Path(shutil.copytree(artifact, folder, ignore=shutil.ignore_patterns("COMMITTED", "manifest.json")))


def conversations(folder: Path) -> str:
    turns = (
        {"text": [{"role": "user", "content": text[:40]}, {"role": "assistant", "content": "Yes."}]}
        for text in paragraphs()[:60]
    )
    return write_rows(folder / "chats.jsonl", turns)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """A language model, and what has become of it."""
    folder = tmp_path_factory.mktemp("chain")
    general = made(pretrain(folder))
    parent = general.folder
    return {
        "causalLM": general,
        "chat": made(finetune(folder / "chat", {"chat": {}}, conversations(folder), parent)),
        "sequenceClassification": made(classification(folder / "label", parent)),
        "LoRA": made(classification(folder / "lora", parent, method={"lora": {}})),
        "bf16": made(classification(folder / "bf16", parent, training__precision="bf16")),
    }


def kind(stage: str) -> str:
    return "lm" if stage in ("causalLM", "chat") else "label"


def judged_here(stage: str, folder: Path) -> tuple[list[int], Tensor]:
    auto = AutoModelForCausalLM if kind(stage) == "lm" else AutoModelForSequenceClassification
    ids = AutoTokenizer.from_pretrained(folder)(TEXT)["input_ids"]
    with torch.no_grad():
        return ids, auto.from_pretrained(folder)(torch.tensor([ids])).logits.float().flatten()


def test_an_artifact_says_the_same_where_pretune_is_not_installed(artifacts: dict[str, Made]) -> None:
    arguments = [f"{kind(stage)}={artifact.path}" for stage, artifact in artifacts.items()]
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-I", "-c", ALONE, TEXT, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    for (stage, artifact), alone in zip(artifacts.items(), json.loads(done.stdout.splitlines()[-1]), strict=True):
        ids, logits = judged_here(stage, artifact.path)
        assert alone["ids"] == ids
        torch.testing.assert_close(torch.tensor(alone["logits"]), logits, atol=1e-6, rtol=0)
        assert alone["said"] in ("short", "long") if kind(stage) == "label" else isinstance(alone["said"], str)


@pytest.mark.parametrize("stage", ["causalLM", "chat", "sequenceClassification"])
def test_what_was_trained_is_what_is_exported(artifacts: dict[str, Made], stage: str) -> None:
    # The last evaluation was of the weights in memory; this one is of those in the artifact.
    artifact = artifacts[stage]
    model = RunModel(parent=Parent(folder=artifact.folder))
    config = artifact.config.model_copy(update={"model": model})
    inputs = gather_inputs(config, Ranks(), Silent())
    model = inputs.make_model().model.eval()
    metric, *_ = inputs.task.metrics()
    for pack in _validation(inputs):
        with torch.no_grad():
            metric.update(inputs.task.evaluate(model, inputs.task.batch([pack])))
    assert metric.result()["loss"] == pytest.approx(artifact.result.metrics["loss"], abs=1e-5)


def _validation(inputs: Any) -> list[Any]:
    return list(held_out(inputs.cache.validation, inputs.task.layout, 0, 1))


@pytest.mark.parametrize("stage", ["causalLM", "chat", "sequenceClassification"])
def test_the_configuration_names_the_special_tokens(artifacts: dict[str, Made], stage: str) -> None:
    folder = artifacts[stage].path
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    wanted = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    assert None not in wanted.values()
    assert wanted.items() <= config.items()
    if kind(stage) == "lm":
        assert wanted.items() <= json.loads((folder / "generation_config.json").read_text()).items()


@pytest.mark.parametrize(("stage", "dtype"), [("sequenceClassification", torch.float32), ("bf16", torch.bfloat16)])
def test_weights_have_the_precision_of_training(artifacts: dict[str, Made], stage: str, dtype: torch.dtype) -> None:
    weights = load_file(artifacts[stage].path / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {dtype}


def test_labels_are_kept_by_name(artifacts: dict[str, Made]) -> None:
    config = json.loads((artifacts["sequenceClassification"].path / "config.json").read_text())
    assert config["id2label"] == {"0": "short", "1": "long"}
    assert config["label2id"] == {"short": 0, "long": 1}


def test_the_model_card_tells_data_lineage_hyperparameters_and_metrics(artifacts: dict[str, Made]) -> None:
    child, parent = artifacts["sequenceClassification"], artifacts["causalLM"]
    card = (child.path / "README.md").read_text()
    assert f"- `{child.config.data.train[0].uri}`" in card
    assert f"digest `{parent.result.artifact_digest}`" in card
    assert '"learningRate": 0.01' in card
    assert f"| accuracy | {child.result.metrics['accuracy']:.4f} |" in card
    assert "Trained from random weights." in (parent.path / "README.md").read_text()


def test_the_digest_is_that_of_the_manifest_which_names_every_file(artifacts: dict[str, Made]) -> None:
    artifact = artifacts["causalLM"]
    manifest = (artifact.path / "manifest.json").read_bytes()
    assert artifact.result.artifact_digest == f"sha256:{sha256(manifest).hexdigest()}"
    files = {file["path"]: file["sha256"] for file in json.loads(manifest)["files"]}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "metrics.json"} <= files.keys()
    for name, digest in files.items():
        assert digest == sha256((artifact.path / name).read_bytes()).hexdigest()


def test_a_chain_starts_from_its_parent_s_weights(artifacts: dict[str, Made]) -> None:
    parent = AutoModelForCausalLM.from_pretrained(artifacts["causalLM"].path).eval()
    child = gather_inputs(artifacts["chat"].config, Ranks(), Silent()).make_model().model.eval()
    ids = torch.arange(5, 45)[None]
    with torch.no_grad():
        assert torch.equal(child(ids).logits, parent(ids).logits)


def test_a_parent_that_has_changed_is_refused(tmp_path: Path, artifacts: dict[str, Made]) -> None:
    folder = Path(shutil.copytree(artifacts["causalLM"].path, tmp_path / "copy"))
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    damaged = Folder(uri=folder.as_uri(), digest=artifacts["causalLM"].result.artifact_digest)
    with pytest.raises(UserError, match=r"spec.model.from: .*copy is damaged: model.safetensors has"):
        run_rank(classification(tmp_path, damaged), Ranks(), Silent())


def test_a_parent_with_another_digest_is_refused(tmp_path: Path, artifacts: dict[str, Made]) -> None:
    other = "sha256:" + "0" * 64
    moved = Folder(uri=artifacts["causalLM"].result.artifact_uri, digest=other)
    with pytest.raises(UserError, match=rf"has digest sha256:\w+, expected {other}"):
        run_rank(classification(tmp_path, moved), Ranks(), Silent())


def test_a_parent_that_ends_in_several_ways_goes_on_to(tmp_path: Path, artifacts: dict[str, Made]) -> None:
    parent = uncommitted_copy(artifacts["causalLM"].path, tmp_path / "parent")
    ends = [AutoTokenizer.from_pretrained(parent).eos_token_id, 300]
    settings = json.loads((parent / "generation_config.json").read_text())
    (parent / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": ends}))
    child = made(
        finetune(tmp_path, {"causalLM": {}}, write_corpus(tmp_path), Folder(uri=parent.as_uri()), training__max_steps=1)
    )
    assert json.loads((child.path / "generation_config.json").read_text())["eos_token_id"] == ends


def test_nothing_in_an_artifact_names_a_place_of_the_machine_that_made_it(artifacts: dict[str, Made]) -> None:
    for made_here in artifacts.values():
        card = made_here.path / "README.md"  # names the sources, as the job does
        for file in {*made_here.path.rglob("*.json"), *made_here.path.rglob("*.md")} - {card}:
            assert tempfile.gettempdir() not in file.read_text(), file


def test_a_tokenizer_cuts_no_text_whichever_run_has_tokenised_the_data(tmp_path: Path) -> None:
    config = classification(tmp_path, training__max_steps=1)
    results = [run_rank(named(config, name), Ranks(), Silent()) for name in ("first", "second")]
    first, second = ((path_of(result) / "tokenizer.json").read_text() for result in results)
    assert first == second
    assert json.loads(first)["truncation"] is None


def test_a_classifier_of_other_labels_gets_a_new_head(tmp_path: Path, artifacts: dict[str, Made]) -> None:
    task = {"sequenceClassification": {"labels": ["a", "b", "c"]}}
    rows = ({"text": text, "label": "abc"[len(text) % 3]} for text in paragraphs()[:60])
    parent = artifacts["sequenceClassification"].folder
    child = made(finetune(tmp_path, task, write_rows(tmp_path / "rows.jsonl", rows), parent, training__max_steps=1))
    assert json.loads((child.path / "config.json").read_text())["id2label"] == {"0": "a", "1": "b", "2": "c"}


def test_weights_of_another_model_are_refused(tmp_path: Path, artifacts: dict[str, Made]) -> None:
    folder = uncommitted_copy(artifacts["causalLM"].path, tmp_path / "mixed")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(UserError, match=r"spec.model.from: its weights do not fit its config.json: model.layers.0.mlp"):
        run_rank(classification(tmp_path, Folder(uri=folder.as_uri())), Ranks(), Silent())


def test_weights_that_are_cut_off_and_a_missing_tokenizer_are_told(tmp_path: Path, artifacts: dict[str, Made]) -> None:
    folder = uncommitted_copy(artifacts["causalLM"].path, tmp_path / "half")
    os.truncate(folder / "model.safetensors", 5_000)
    with pytest.raises(UserError, match=r"spec.model.from: the model cannot be loaded: its weights are cut off"):
        run_rank(classification(tmp_path, Folder(uri=folder.as_uri())), Ranks(), Silent())
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(
        UserError, match=r"spec.tokenizer: the tokenizer cannot be loaded: there is none beside the model"
    ):
        run_rank(classification(tmp_path, Folder(uri=folder.as_uri())), Ranks(), Silent())


@pytest.mark.parametrize("kind", ["bart", "bert", "gemma", "gpt2", "hubert", "qwen2", "roberta", "t5", "wav2vec2"])
def test_a_tokenizer_that_transformers_makes_of_nothing_is_none(tmp_path: Path, kind: str) -> None:
    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"the tokenizer cannot be loaded: there is none beside the model"):
        load_tokenizer(Source(str(tmp_path)))


@pytest.mark.parametrize("kind", ["vit", "vit_mae", "resnet"])
def test_a_parent_that_reads_no_text_is_named_where_a_tokenizer_is_wanted(tmp_path: Path, kind: str) -> None:
    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=rf"^spec.model.from: {kind} models read no text; use another parent"):
        load_tokenizer(Source(str(tmp_path)))


def test_a_configuration_that_is_missing_or_refused_is_told_whatever_is_learnt(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^spec.model.from: there is no model to start from: "):
        images_for(Source(str(tmp_path)), None, "spec.task.imageClassification.imageSize")
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": "wide"}')
    with pytest.raises(UserError, match=r"transformers refuses its config.json: Field 'hidden_size' expected int"):
        model_type(Source(str(tmp_path)))
    with pytest.raises(UserError, match=r"transformers refuses its config.json: Field 'hidden_size' expected int"):
        load_tokenizer(Source(str(tmp_path)))


def _empty(folder: Path) -> None:
    """Nothing."""


def _readme(folder: Path) -> None:
    (folder / "README.md").write_text("No model.")


def _config_alone(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama"}')


def _unknown_type(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "lama"}')


@pytest.mark.parametrize(
    ("fill", "sentence"),
    [
        (_empty, r"spec.model.from: .*parent: the folder is empty; check the URI"),
        (_readme, r"spec.tokenizer: the tokenizer cannot be loaded|spec.model.from: there is no model to start from"),
        (_config_alone, r"spec.tokenizer: the tokenizer cannot be loaded|spec.model.from: the model cannot be loaded"),
        (_unknown_type, r"spec.tokenizer: the tokenizer cannot be|spec.model.from: there is no model to start from"),
    ],
)
def test_a_parent_that_is_no_model_is_refused(tmp_path: Path, fill: Any, sentence: str) -> None:
    (tmp_path / "parent").mkdir()
    fill(tmp_path / "parent")
    parent = Folder(uri=(tmp_path / "parent").as_uri())
    with pytest.raises(UserError, match=sentence) as caught:
        run_rank(finetune(tmp_path, {"causalLM": {}}, write_corpus(tmp_path), parent), Ranks(), Silent())
    assert "\n" not in str(caught.value)


def test_a_null_that_is_a_choice_is_told_wherever_the_settings_are(tmp_path: Path) -> None:
    config = pretrain(tmp_path, training__gradient_clip=None)
    (history,) = open_sinks(config)
    history.write([START])
    kept = next(Path(tmp_path, "storage").rglob(RunConfig.FILE_NAME)).read_bytes()
    assert RunConfig.model_validate_json(kept) == config
    facts = Facts(metrics={}, step=1, tokens=1, parameters=1, parent="", data="")
    assert '"gradientClip": null' in model_card(config, facts)
    assert "microBatchRows" not in model_card(config, facts), "what is absent is left out"


def test_an_artifact_is_utf_8_whatever_the_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = pretrain(tmp_path)
    run = claim_run(Store.open(config.storage).child(config.job.folder), lambda _: None)
    facts = Facts(metrics={"f1[größe]": 0.5}, step=1, tokens=1, parameters=1, parent=f"sha256:{0:064}", data="")
    monkeypatch.setattr(io, "text_encoding", lambda encoding, *_: encoding or "latin-1")
    (tmp_path / "made").mkdir()
    publish(tmp_path / "made", run, config, facts)
    found = finished(run.store)
    assert found is not None
    assert found.facts == facts


def test_a_model_for_which_there_is_no_room_is_told_in_a_sentence(tmp_path: Path) -> None:
    tuned = Tuned.itself(LlamaForCausalLM(LlamaConfig(vocab_size=300, **TINY["llama"])))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(StorageError, match=r": the model cannot be written \(.*\); let TMPDIR name a folder"):
            export(tuned, None, torch.float32, Ranks(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
