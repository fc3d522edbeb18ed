"""What users bring as a parent: in whatever form it is loaded whole, or refused in a sentence before training."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from pretune_api.run_config import RunConfig
from pretune_trainer.data.stream import held_out
from pretune_trainer.errors import UserError
from pretune_trainer.parallel import Ranks
from pretune_trainer.preflight.run import preflight
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.jobs import classification, finetune, write_corpus
from support.language import TINY, small_tokenizer
from support.objectives import ARCHITECTURES
from support.runs import gathered, path_of, run

LAYER = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A folder as a user saves it."""
    folder = tmp_path / "parent"
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", vocab_size=512, **TINY["llama"]))
    model.save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


def continued(folder: Path, parent: Path, **changes: Any) -> RunConfig:
    """The run config of one more step on plain text."""
    model = {"from": {"uri": parent.as_uri()}}
    fields = {"model": model, "tokenizer": None, "training__max_steps": 1, **changes}
    return finetune(folder, {"causalLM": {}}, write_corpus(folder, 60), **fields)


def _quantized(how: dict[str, Any], folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": how}))


def _without_a_layer(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({name: weights[name] for name in weights.keys() - {LAYER}}, folder / "model.safetensors")


def _with_a_layer_of_another_shape(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {LAYER: weights[LAYER][:-1].clone()}, folder / "model.safetensors")


def _cut_off(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _in_pickles(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _with_updates_beside_it(folder: Path) -> None:
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(task_type="CAUSAL_LM"))
    model.save_pretrained(folder)
    model.merge_and_unload().save_pretrained(folder)


def _with_own_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    own = {"model_type": "mystery", "auto_map": {"AutoConfig": "own.Config"}}
    (folder / "config.json").write_text(json.dumps(config | own))
    (folder / "own.py").write_text("raise SystemExit('code of others was run')")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            partial(_quantized, {"quant_method": "gptq"}),
            r"^spec.model.from: its weights are quantized \(gptq\), which cannot be trained; use the",
        ),
        (
            partial(_quantized, {"load_in_8bit": True}),
            r"^spec.model.from: its weights are quantized \(bitsandbytes\), which cannot be trained; use the",
        ),
        (_without_a_layer, rf"^spec.model.from: its weights lack {LAYER}; check the folder"),
        (
            _with_a_layer_of_another_shape,
            rf"^spec.model.from: its weights do not fit its config.json: {LAYER} has another shape; check the folder",
        ),
        (_cut_off, r"^spec.model.from: the model cannot be loaded: its weights are cut off or damaged \(.+\); fetch"),
        (_in_pickles, r"^spec.model.from: the model cannot be loaded: it has no file model.safetensors; save it anew"),
        (
            _with_updates_beside_it,
            r"^spec.model.from: it holds LORA updates beside a whole model; merge them into the model, or,",
        ),
        (
            _with_own_code,
            r"^spec.model.from: there is no model to start from: it brings code of its own, which",
        ),
    ],
)
def test_a_parent_that_cannot_be_trained_is_refused(
    tmp_path: Path, parent: Path, change: Callable[[Path], None], sentence: str
) -> None:
    change(parent)
    with pytest.raises(UserError, match=sentence) as caught:
        run_rank(continued(tmp_path, parent), Ranks(), Silent())
    assert "\n" not in str(caught.value)


def test_a_parent_s_temperature_without_sampling_stays_in_its_artifact(tmp_path: Path, parent: Path) -> None:
    generation = {"bos_token_id": 1, "eos_token_id": 2, "temperature": 0.9, "top_p": 0.6}
    (parent / "generation_config.json").write_text(json.dumps(generation))
    result = run_rank(continued(tmp_path, parent), Ranks(), Silent())
    kept = GenerationConfig.from_pretrained(path_of(result))
    assert (kept.temperature, kept.top_p, kept.pad_token_id) == (0.9, 0.6, 3)


def test_a_token_for_images_needs_no_embedding_in_a_model_of_texts(tmp_path: Path, parent: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(parent, extra_special_tokens={"image_token": "<image>"})
    tokenizer.save_pretrained(parent)
    assert len(tokenizer) == 513
    result = run_rank(continued(tmp_path, parent), Ranks(), Silent())
    assert AutoModelForCausalLM.from_pretrained(path_of(result)).config.vocab_size == 512


def test_a_token_that_texts_may_have_needs_an_embedding(tmp_path: Path, parent: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(parent)
    tokenizer.add_tokens([AddedToken("<|turn|>", special=True)])
    tokenizer.save_pretrained(parent)
    with pytest.raises(
        UserError, match=r"^spec.tokenizer: it has 513 entries, .* for 512; .* resize the model's embed"
    ):
        run_rank(continued(tmp_path, parent), Ranks(), Silent())


def test_updates_beside_a_body_that_has_no_head_to_write_with_are_refused(tmp_path: Path, parent: Path) -> None:
    """Such as a model of embeddings, or a classifier."""
    config = AutoConfig.for_model("llama", vocab_size=512, **TINY["llama"])
    AutoModel.from_config(config).save_pretrained(parent)
    updates = continued(tmp_path, parent, method={"lora": {"rank": 4}})
    with pytest.raises(UserError, match=r"^spec.method: the parent has no lm_head.weight, .* would stay random; train"):
        run_rank(updates, Ranks(), Silent())
    (found,) = (finding for finding in preflight(updates) if finding.check == "model")
    assert (found.ok, found.place) == (False, "spec.method")
    assert "the parent has no lm_head.weight" in found.sentence


@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "OurOwnModel", "AutoConfig"])
def test_before_training_a_head_is_missed_only_where_the_config_names_a_class_without(
    tmp_path: Path, parent: Path, kind: str
) -> None:
    config = json.loads((parent / "config.json").read_text())
    (parent / "config.json").write_text(json.dumps(config | {"architectures": [kind]}))
    findings = preflight(continued(tmp_path, parent, method={"lora": {"rank": 4}}))
    assert [finding.check for finding in findings if not finding.ok] == []


@pytest.mark.parametrize("method", [{"lora": {"rank": 4, "merge": False}}, {"adapter": {"channels": 4}}])
def test_what_a_parent_lacks_below_the_head_is_trained_and_in_the_artifact(
    tmp_path: Path, method: dict[str, Any]
) -> None:
    """A BERT that has learnt maskedLM alone has no pooler."""
    parent = tmp_path / "parent"
    fields = ARCHITECTURES["bert"]["config"]
    AutoModelForMaskedLM.from_config(AutoConfig.for_model("bert", vocab_size=512, **fields)).save_pretrained(parent)
    small_tokenizer().save_pretrained(parent)
    model = {"from": {"uri": parent.as_uri()}}
    config = classification(tmp_path, model=model, tokenizer=None, method=method, training__max_steps=2)
    result, _ = run(Ranks(), config)
    torch.manual_seed(7)  # another pooler than the one that training began with
    whole = AutoModelForSequenceClassification.from_pretrained(parent, num_labels=2)
    loaded = PeftModel.from_pretrained(whole, path_of(result)).eval()
    inputs = gathered(config)
    packs = list(held_out(inputs.cache.validation, inputs.task.layout))
    losses = []
    for pack in packs:
        batch = inputs.task.batch([pack])
        with torch.no_grad():
            logits = loaded(**batch.inputs).logits
        losses.append(torch.nn.functional.cross_entropy(logits, batch.targets["label"]).item())
    assert sum(losses) / len(losses) == pytest.approx(result.metrics["loss"], abs=1e-4)
