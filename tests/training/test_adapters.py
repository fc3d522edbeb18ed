"""Updates that cannot be merged: bottlenecks and virtual tokens. What is trained is what peft makes of the artifact."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    set_seed,
)

from pretune_api.base import Spec
from pretune_api.methods import Adapter, Lora, Prefix, PromptTuning
from pretune_api.model import Architecture
from pretune_api.run_config import Folder, RunConfig
from pretune_trainer.errors import UserError
from pretune_trainer.methods import METHODS, Tuned
from pretune_trainer.methods.bottleneck import BottleneckConfig
from pretune_trainer.model.build import Build
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Evaluated, Silent, Start
from pretune_trainer.result import RankResult
from support.group import in_ranks
from support.jobs import Recorder, classification, finetune, pretrain, write_corpus
from support.language import TINY, small_tokenizer
from support.objectives import ARCHITECTURES
from support.runs import as_parent, run, run_until

VIRTUAL: dict[str, tuple[str, Spec]] = {
    "prefix": ("prefix", Prefix(tokens=3)),
    "projected": ("prefix", Prefix(tokens=3, projected=True)),
    "promptTuning": ("promptTuning", PromptTuning(tokens=3)),
}
BOTTLENECKS: dict[str, tuple[str, Spec]] = {
    "houlsby": ("adapter", Adapter(channels=4)),
    "pfeiffer": ("adapter", Adapter(channels=4, placement="pfeiffer")),
}
METHOD_SPECS: dict[str, dict[str, Any]] = {
    "adapter": {"adapter": {"channels": 4}},
    "prefix": {"prefix": {"tokens": 4}},
    "promptTuning": {"promptTuning": {"tokens": 4}},
}
PAD = 3
IDS = torch.randint(5, 500, (2, 12), generator=torch.Generator().manual_seed(1))
RIGHT = torch.tensor([[1] * 12, [1] * 8 + [0] * 4])
"""Where a batch has text whose second row is shorter."""


def built(family: str, auto: Any = AutoModelForCausalLM, **head: Any) -> PreTrainedModel:
    architecture = {"type": family, "config": TINY[family]} if family in TINY else ARCHITECTURES[family]
    set_seed(1)
    made = Build(Architecture.model_validate(architecture), small_tokenizer(), 32, virtual_tokens=8)
    return made.make(auto, **head).eval()


def shaken(tuned: Tuned) -> PreTrainedModel:
    """The model with other values in whatever is trained."""
    torch.manual_seed(2)
    for parameter in tuned.model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.5)
    return tuned.model.eval()


def saved(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def language_logits(model: PreTrainedModel, **inputs: Tensor) -> Tensor:
    """As a task computes them: of the model's body, and of its head."""
    with torch.no_grad():
        hidden = model.base_model(**inputs, use_cache=False).last_hidden_state
        head = model.get_output_embeddings()
        assert head is not None
        logits: Tensor = head(hidden)
        return logits


@pytest.mark.parametrize("name", [*VIRTUAL, *BOTTLENECKS])
@pytest.mark.parametrize("family", TINY)
def test_what_is_trained_is_what_peft_computes_and_writes_with_the_artifact(
    tmp_path: Path, family: str, name: str
) -> None:
    model = built(family)
    parent = saved(model, tmp_path / "parent")
    before = language_logits(model, input_ids=IDS)
    method, spec = (VIRTUAL | BOTTLENECKS)[name]
    tuned = METHODS[method](model, spec)
    shaken(tuned)
    positions = torch.arange(12).expand(2, 12)
    ours = language_logits(model, input_ids=IDS, position_ids=positions)
    written = [_written(model, IDS, RIGHT.flip(1), beams) for beams in (1, 3)]
    tuned.save(tmp_path / "updates", torch.float32)
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(parent), tmp_path / "updates").eval()
    with torch.no_grad():
        expected = theirs(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits[:, -12:]
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)
    assert (ours - before).abs().max() > 0.01
    for beams, rows in zip((1, 3), written, strict=True):
        assert torch.equal(rows[:1], _written(theirs, IDS[:1], RIGHT[:1], beams))  # a row without padding
        assert torch.equal(rows[1:, 4:], _written(theirs, IDS[1:, 4:], RIGHT[1:, :8], beams))


def _written(model: PreTrainedModel, ids: Tensor, mask: Tensor, beams: int) -> Tensor:
    """What six tokens it goes on with; `ids` may be padded on the left."""
    length = {"min_new_tokens": 6, "max_new_tokens": 6, "num_beams": beams, "do_sample": False}
    found = model.generate(input_ids=ids.where(mask.bool(), PAD), attention_mask=mask, **length)
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize("name", ["prefix", "projected", "houlsby"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_classifier_reads_padded_texts_as_peft_does(tmp_path: Path, family: str, name: str) -> None:
    model = built(family, AutoModelForSequenceClassification, num_labels=3)
    parent = saved(model, tmp_path / "parent")
    method, spec = (VIRTUAL | BOTTLENECKS)[name]
    tuned = METHODS[method](model, spec)
    shaken(tuned)
    inputs = {"input_ids": IDS.where(RIGHT.bool(), PAD), "attention_mask": RIGHT}
    with torch.no_grad():
        ours, alone = model(**inputs).logits, model(input_ids=IDS[1:, :8], attention_mask=RIGHT[1:, :8]).logits
    torch.testing.assert_close(ours[1:], alone, atol=1e-5, rtol=0)
    tuned.save(tmp_path / "updates", torch.float32)
    base = AutoModelForSequenceClassification.from_pretrained(parent, num_labels=3)
    theirs = PeftModel.from_pretrained(base, tmp_path / "updates").eval()
    with torch.no_grad():
        torch.testing.assert_close(ours, theirs(**inputs).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["prefix", "projected", "promptTuning"])
def test_virtual_tokens_learn_what_peft_s_own_learn(name: str) -> None:
    method, spec = VIRTUAL[name]
    ours, theirs = built("llama"), built("llama")
    config = (
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, prompt_tuning_init="SAMPLE_VOCAB")
        if name == "promptTuning"
        else PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, prefix_projection=name == "projected")
    )
    set_seed(5)
    tuned = METHODS[method](ours, spec).model
    set_seed(5)
    adapted = get_peft_model(theirs, config)
    pairs = list(
        zip(
            [each for each in tuned.parameters() if each.requires_grad],
            [each for each in adapted.parameters() if each.requires_grad],
            strict=True,
        )
    )
    both = [torch.optim.AdamW(side, lr=0.01) for side in zip(*pairs, strict=True)]
    labels = IDS.where(RIGHT.bool(), -100)
    labels[:, 0] = -100  # peft would have it predicted by the last virtual token; no task of ours does
    for _ in range(3):
        tuned(input_ids=IDS, labels=labels).loss.backward()
        adapted(input_ids=IDS, labels=labels).loss.backward()
        for optimizer in both:
            optimizer.step()
            optimizer.zero_grad()
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("family", "ends"),
    [
        ("llama", {"self_attn.o_proj", "mlp.down_proj"}),
        ("phi3", {"self_attn.o_proj", "mlp.down_proj"}),
        ("gpt2", {"attn.c_proj", "mlp.c_proj"}),
        ("gpt_neox", {"attention.dense", "mlp.dense_4h_to_h"}),
        ("bert", {"attention.output.dense", "output.dense"}),
        ("modernbert", {"attn.Wo", "mlp.Wo"}),
        ("t5", {"SelfAttention.o", "EncDecAttention.o", "DenseReluDense.wo"}),
        ("bart", {"self_attn.out_proj", "encoder_attn.out_proj", "fc2"}),
    ],
)
def test_a_bottleneck_follows_each_part_of_a_block(family: str, ends: set[str]) -> None:
    model = built(family, AutoModelForSequenceClassification, num_labels=2)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    tuned = METHODS["adapter"](model, Adapter(channels=4)).model
    follows = {name for name, module in tuned.named_modules() if hasattr(module, "bottleneck_up")}
    assert {max((end for end in ends if name.endswith(f".{end}")), key=len) for name in follows} == ends
    blocks = {re.split(r"\.\d+\.", name)[0] + re.findall(r"\.\d+\.", name)[0] for name in follows}
    attentions = sum("attn" in name or "ttention" in name for name in follows)
    assert len(follows) - attentions == len(blocks)
    frozen = {name for name, each in tuned.named_parameters() if not each.requires_grad}
    assert not {name for name in frozen if "bottleneck" in name}
    for name, each in tuned.named_parameters():
        if name.replace(".base_layer", "") in before:
            assert not each.requires_grad, name


def test_pfeiffer_s_bottlenecks_follow_the_feed_forward_parts_alone() -> None:
    tuned = METHODS["adapter"](built("bert", AutoModelForSequenceClassification), BOTTLENECKS["pfeiffer"][1]).model
    follows = [name for name, module in tuned.named_modules() if hasattr(module, "bottleneck_up")]
    assert follows == [f"bert.encoder.layer.{number}.output.dense" for number in (0, 1)]


def test_a_new_bottleneck_changes_nothing() -> None:
    model = built("llama")
    before = language_logits(model, input_ids=IDS)
    tuned = METHODS["adapter"](model, Adapter(channels=4)).model
    assert torch.equal(language_logits(tuned.eval(), input_ids=IDS), before)


def test_bottlenecks_are_switched_off_and_changed_for_others_as_peft_s_own_updates() -> None:
    model, spec = built("llama").bfloat16(), BottleneckConfig(channels=4, target_modules=["down_proj"])
    before = language_logits(model, input_ids=IDS)
    adapted = get_peft_model(model, spec)
    for name, parameter in adapted.named_parameters():
        if "bottleneck_" in name:
            nn.init.normal_(parameter)
    after = language_logits(model, input_ids=IDS)
    assert after.dtype == torch.bfloat16
    assert not torch.equal(after, before)
    with adapted.disable_adapter():
        assert torch.equal(language_logits(model, input_ids=IDS), before)
    adapted.add_adapter("other", spec)
    for name, expected in {"default": after, "other": before}.items():
        adapted.set_adapter(name)
        assert torch.equal(language_logits(model, input_ids=IDS), expected)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A language model with positions for 128 tokens."""
    shape = {"type": "llama", "config": {**TINY["llama"], "max_position_embeddings": 128}}
    config = pretrain(tmp_path_factory.mktemp("parent"), model__architecture=shape, training__max_steps=4)
    return as_parent(run_rank(config, Ranks(), Silent()))


def path(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def adapt(folder: Path, parent: Folder, name: str, **changes: Any) -> RunConfig:
    """The run config of a continued pretraining by a method."""
    rate = 0.01 if name == "adapter" else 0.1
    changes = {"method": METHOD_SPECS[name], "training__learning_rate": rate} | changes
    return finetune(folder, {"causalLM": {}}, write_corpus(folder), parent, **changes)


def updates(result: RankResult) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = load_file(path(result.artifact_uri) / "adapter_model.safetensors")
    return tensors


@pytest.mark.parametrize(
    ("name", "trained"),
    [("adapter", 4 * (2 * 32 * 4 + 4 + 32)), ("prefix", 4 * 2 * 2 * 32), ("promptTuning", 4 * 32)],
)
def test_the_artifact_loads_as_its_card_says(tmp_path: Path, parent: Folder, name: str, trained: int) -> None:
    recorder = Recorder()
    result = run_rank(adapt(tmp_path, parent, name, evaluation__baseline=True), Ranks(), recorder)
    start, (before, after) = recorder.of(Start)[0], recorder.of(Evaluated)
    assert start.trainable == trained == sum(tensor.numel() for tensor in updates(result).values())
    assert after.metrics["loss"] < before.metrics["loss"]
    card = (path(result.artifact_uri) / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: peft\n")
    code = card.partition("```python\n")[2].partition("```")[0]
    assert ("import pretune_trainer" in code) == (name == "adapter")
    loaded: dict[str, Any] = {}
    places = {"PARENT": str(path(parent.uri)), "THIS FOLDER": str(path(result.artifact_uri))}
    exec(re.sub("PARENT|THIS FOLDER", lambda found: places[found[0]], code), loaded)
    assert isinstance(loaded["model"], PeftModel)
    assert not (path(result.artifact_uri) / "config.json").exists()


def test_a_classifier_s_artifact_brings_its_head(tmp_path: Path, parent: Folder) -> None:
    result = run_rank(classification(tmp_path, parent, method=METHOD_SPECS["prefix"]), Ranks(), Silent())
    assert any("score" in name for name in updates(result))
    assert "num_labels=2" in (path(result.artifact_uri) / "README.md").read_text()


@pytest.mark.parametrize("name", METHOD_SPECS)
def test_updates_that_are_stopped_go_on_as_if_they_had_not_been(tmp_path: Path, parent: Folder, name: str) -> None:
    whole = run_rank(adapt(tmp_path / "whole", parent, name), Ranks(), Silent())
    config = adapt(tmp_path / "stopped", parent, name)
    run_until(Ranks(), config, 4)
    one, other = updates(whole), updates(run_rank(config, Ranks(), Silent()))
    assert all(torch.equal(weight, other[key]) for key, weight in one.items())


@pytest.mark.parametrize("name", METHOD_SPECS)
def test_two_ranks_make_the_updates_that_one_makes(tmp_path: Path, parent: Folder, name: str) -> None:
    alone, steps = run(Ranks(), adapt(tmp_path / "one", parent, name))
    (together, others), *_ = in_ranks(2, run, adapt(tmp_path / "two", parent, name))
    assert [step.loss for step in others] == pytest.approx([step.loss for step in steps], abs=1e-6)
    for key, weight in updates(alone).items():
        torch.testing.assert_close(updates(together)[key], weight, atol=1e-4, rtol=0, msg=key)


@pytest.mark.parametrize("name", METHOD_SPECS)
def test_updates_learn_in_bf16_too(tmp_path: Path, parent: Folder, name: str) -> None:
    recorder = Recorder()
    changes = {"training__precision": "bf16", "evaluation__baseline": True}
    run_rank(adapt(tmp_path, parent, name, **changes), Ranks(), recorder)
    before, after = recorder.of(Evaluated)
    assert after.metrics["loss"] < before.metrics["loss"]


def test_updates_alone_are_no_parent(tmp_path: Path, parent: Folder) -> None:
    result = run_rank(adapt(tmp_path, parent, "prefix", training__max_steps=1), Ranks(), Silent())
    alone = as_parent(result)
    says = r"spec.model.from: .* holds PREFIX_TUNING updates alone; create it with a method"
    with pytest.raises(UserError, match=says):
        run_rank(adapt(tmp_path / "next", alone, "prefix"), Ranks(), Silent())
    described = json.loads((path(result.artifact_uri) / "adapter_config.json").read_text())
    assert described["num_virtual_tokens"] == 4


@pytest.mark.parametrize(
    ("family", "auto", "method", "sentence"),
    [
        (
            "bert",
            AutoModelForSequenceClassification,
            "prefix",
            "virtual tokens are for decoders",
        ),
        (
            "llama",
            AutoModelForSequenceClassification,
            "promptTuning",
            "a head after virtual embeddings cannot tell text from padding; use prefix",
        ),
        (
            "llama",
            AutoModelForQuestionAnswering,
            "prefix",
            "peft supports no virtual tokens with the head qa_outputs; use lora or adapter",
        ),
    ],
)
def test_virtual_tokens_where_they_would_be_wrong_are_refused(
    family: str, auto: Any, method: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=rf"spec.method.{method}: {sentence}"):
        METHODS[method](built(family, auto), VIRTUAL[method][1])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"training__activation_checkpointing": True},
            "spec.training.activationCheckpointing: a prefix is lost when blocks are recomputed; remove it",
        ),
        (
            {"data__sequence_length": 125},
            "the model has 128 positions, but spec.data.sequenceLength requests 125, and spec.method 4 more",
        ),
    ],
)
def test_a_prefix_that_does_not_fit_is_refused(
    tmp_path: Path, parent: Folder, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        run_rank(adapt(tmp_path, parent, "prefix", **changes), Ranks(), Silent())


@pytest.mark.parametrize(
    ("method", "spec", "sentence"),
    [
        ("adapter", Adapter(), "spec.method.adapter: it does not support mamba models; use lora"),
        ("lora", Lora(targets="attention"), r"spec.method.lora.targets: .*mamba model.* no such layers"),
    ],
)
def test_a_model_without_attention_has_no_place_for_what_stands_beside_it(
    method: str, spec: Spec, sentence: str
) -> None:
    mamba = Architecture(type="mamba", config={"hidden_size": 32, "num_hidden_layers": 1, "state_size": 4})
    made = Build(mamba, small_tokenizer(), 32).make(AutoModelForCausalLM)
    with pytest.raises(UserError, match=sentence):
        METHODS[method](made, spec)
