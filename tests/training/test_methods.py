"""What a method trains, what it leaves alone, and what its artifact holds."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForZeroShotImageClassification,
    MobileNetV1Config,
)

from pretune_api.methods import Freeze, Full, Ia3, Lora
from pretune_api.model import Architecture
from pretune_api.run_config import Folder, RunConfig
from pretune_trainer.errors import UserError
from pretune_trainer.methods.freeze import freeze
from pretune_trainer.methods.full import full
from pretune_trainer.methods.ia3 import ia3
from pretune_trainer.methods.lora import lora
from pretune_trainer.model.build import Build
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent, Start
from support.group import in_ranks
from support.jobs import Recorder, classification, finetune, pretrain, write_corpus
from support.language import TINY, small_tokenizer
from support.objectives import ARCHITECTURES
from support.runs import as_parent, run, run_until

IDS = torch.arange(5, 45)[None]
FAMILIES = {
    "llama": {"type": "llama", "config": TINY["llama"]},
    "llama tied": {"type": "llama", "config": {**TINY["llama"], "tie_word_embeddings": True}},
    "gpt2": {"type": "gpt2", "config": TINY["gpt2"]},
}


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Folder]:
    """Artifacts of models that know a little, by family."""
    made: dict[str, Folder] = {}
    for name, architecture in FAMILIES.items():
        config = pretrain(tmp_path_factory.mktemp("parent"), model__architecture=architecture, training__max_steps=4)
        made[name] = as_parent(run_rank(config, Ranks(), Silent()))
    return made


def path(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def weights(folder: str) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = load_file(path(folder) / "model.safetensors")
    return tensors


def adapt(folder: Path, parent: Folder, method: dict[str, Any], **changes: Any) -> RunConfig:
    """The run config of a continued pretraining by a method."""
    return finetune(folder, {"causalLM": {}}, write_corpus(folder), parent, method=method, **changes)


def logits(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.eval()(input_ids=IDS).logits
    return found


UPDATES: dict[str, dict[str, Any]] = {
    "attention": {"lora": {"rank": 4}},
    "linear": {"lora": {"rank": 4, "targets": "linear"}},
    "rank-stabilized": {"lora": {"rank": 4, "rankStabilized": True}},
    "weight-decomposed": {"lora": {"rank": 4, "weightDecomposed": True, "targets": "linear"}},
    "ia3": {"ia3": {}},
}


@pytest.mark.parametrize("method", UPDATES.values(), ids=UPDATES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_model_says_what_parent_and_updates_say(
    tmp_path: Path, parents: dict[str, Folder], family: str, method: dict[str, Any]
) -> None:
    rate = 0.3 if "ia3" in method else 0.01  # vectors that begin at 1 move by little else
    result = run_rank(adapt(tmp_path, parents[family], method, training__learning_rate=rate), Ranks(), Silent())
    parent = AutoModelForCausalLM.from_pretrained(path(parents[family].uri))
    before = logits(parent)
    unmerged = logits(PeftModel.from_pretrained(parent, path(result.artifact_uri) / "adapter"))
    merged = logits(AutoModelForCausalLM.from_pretrained(path(result.artifact_uri)))
    torch.testing.assert_close(merged, unmerged, atol=1e-5, rtol=0)
    assert (merged - before).abs().max() > 0.1


def test_the_card_of_a_merged_model_counts_the_parameters_that_it_has(
    tmp_path: Path, parents: dict[str, Folder]
) -> None:
    result = run_rank(adapt(tmp_path, parents["llama"], {"lora": {"rank": 4}}), Ranks(), Silent())
    count = AutoModelForCausalLM.from_pretrained(path(result.artifact_uri)).num_parameters()
    assert f": {count:,} parameters, " in (path(result.artifact_uri) / "README.md").read_text()


def test_a_merged_model_is_merged_before_it_is_rounded(tmp_path: Path, parents: dict[str, Folder]) -> None:
    method = {"lora": {"rank": 4, "targets": "linear"}}
    config = adapt(tmp_path, parents["llama"], method, training__precision="bf16")
    result = run_rank(config, Ranks(), Silent())
    parent = AutoModelForCausalLM.from_pretrained(path(parents["llama"].uri))
    exact = PeftModel.from_pretrained(parent, path(result.artifact_uri) / "adapter").merge_and_unload().state_dict()
    for name, weight in weights(result.artifact_uri).items():
        assert torch.equal(weight, exact[name].bfloat16()), name


def test_updates_alone_load_with_peft_on_the_parent(tmp_path: Path, parents: dict[str, Folder]) -> None:
    method = {"lora": {"rank": 4, "merge": False}}
    result = run_rank(adapt(tmp_path / "alone", parents["llama"], method), Ranks(), Silent())
    whole = run_rank(adapt(tmp_path / "whole", parents["llama"], {"lora": {"rank": 4}}), Ranks(), Silent())
    assert not (path(result.artifact_uri) / "model.safetensors").exists()
    parent = AutoModelForCausalLM.from_pretrained(path(parents["llama"].uri))
    adapted = logits(PeftModel.from_pretrained(parent, path(result.artifact_uri)))
    merged = logits(AutoModelForCausalLM.from_pretrained(path(whole.artifact_uri)))
    torch.testing.assert_close(adapted, merged, atol=1e-5, rtol=0)


def test_updates_alone_are_no_parent(tmp_path: Path, parents: dict[str, Folder]) -> None:
    method = {"lora": {"rank": 4, "merge": False}}
    result = run_rank(adapt(tmp_path, parents["llama"], method, training__max_steps=1), Ranks(), Silent())
    updates = as_parent(result)
    with pytest.raises(UserError, match=r"spec.model.from: .* holds LORA updates alone; create it with merge: true"):
        run_rank(adapt(tmp_path / "next", updates, {"full": {}}), Ranks(), Silent())


def changed(parent: Folder, artifact: str) -> set[str]:
    """Names of the weights that are not the parent's to the bit."""
    before, after = weights(parent.uri), weights(artifact)
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_low_rank_updates_leave_all_other_weights_as_they_are(tmp_path: Path, parents: dict[str, Folder]) -> None:
    recorder = Recorder()
    result = run_rank(adapt(tmp_path, parents["llama"], {"lora": {"rank": 4}}), Ranks(), recorder)
    projections = {f"model.layers.{n}.self_attn.{name}_proj.weight" for n in (0, 1) for name in "qkvo"}
    assert changed(parents["llama"], result.artifact_uri) == projections
    assert recorder.of(Start)[0].trainable == 2 * 4 * (2 * 32 * 4)
    difference = (
        weights(result.artifact_uri)["model.layers.0.self_attn.q_proj.weight"]
        - weights(parents["llama"].uri)["model.layers.0.self_attn.q_proj.weight"]
    )
    assert int(torch.linalg.matrix_rank(difference, atol=1e-5)) <= 4


def test_a_vector_rescales_each_channel_of_keys_values_and_inner_activations(
    tmp_path: Path, parents: dict[str, Folder]
) -> None:
    recorder = Recorder()
    result = run_rank(adapt(tmp_path, parents["llama"], {"ia3": {}}), Ranks(), recorder)
    layers = {"self_attn.k_proj", "self_attn.v_proj", "mlp.down_proj"}
    assert changed(parents["llama"], result.artifact_uri) == {
        f"model.layers.{n}.{name}.weight" for n in (0, 1) for name in layers
    }
    assert recorder.of(Start)[0].trainable == 2 * (32 + 32 + 64)


def test_rank_stabilized_updates_are_scaled_by_the_root_of_their_rank() -> None:
    plain, stabilized = (
        lora(model("llama"), Lora(rank=4, alpha=8, rank_stabilized=each)).model for each in (False, True)
    )
    scales = [made.model.layers[0].self_attn.q_proj.scaling["default"] for made in (plain, stabilized)]
    assert scales == [8 / 4, 8 / 2]


def test_of_what_low_rank_updates_read_some_is_left_out_at_random_while_they_learn() -> None:
    tuned = lora(model("llama"), Lora(rank=4, dropout=0.5)).model
    for name, parameter in tuned.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter)  # at first they change nothing
    assert torch.equal(logits(tuned), logits(tuned))
    with torch.no_grad():
        one, other = (tuned.train()(input_ids=IDS).logits for _ in range(2))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", ["weight-decomposed", "ia3"])
def test_updates_that_are_stopped_go_on_as_if_they_had_not_been(
    tmp_path: Path, parents: dict[str, Folder], name: str
) -> None:
    whole = run_rank(adapt(tmp_path / "whole", parents["llama"], UPDATES[name]), Ranks(), Silent())
    config = adapt(tmp_path / "stopped", parents["llama"], UPDATES[name])
    run_until(Ranks(), config, 4)
    resumed = run_rank(config, Ranks(), Silent())
    one, other = weights(whole.artifact_uri), weights(resumed.artifact_uri)
    assert all(torch.equal(weight, other[key]) for key, weight in one.items())


def test_a_classifier_s_head_is_trained_beside_the_updates(tmp_path: Path, parents: dict[str, Folder]) -> None:
    parent = parents["llama"]
    result = run_rank(classification(tmp_path, parent, method={"lora": {"rank": 4}}), Ranks(), Silent())
    before, after = weights(parent.uri), weights(result.artifact_uri)
    kept = {name for name in after if name in before and torch.equal(before[name], after[name])}
    assert after.keys() - kept == {"score.weight"} | {name for name in after if "self_attn" in name}
    base = AutoModelForSequenceClassification.from_pretrained(path(parent.uri), num_labels=2)
    unmerged = PeftModel.from_pretrained(base, path(result.artifact_uri) / "adapter")
    merged = AutoModelForSequenceClassification.from_pretrained(path(result.artifact_uri))
    torch.testing.assert_close(logits(merged), logits(unmerged), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", [UPDATES["weight-decomposed"], UPDATES["ia3"]], ids=["dora", "ia3"])
def test_two_ranks_make_the_updates_that_one_makes(
    tmp_path: Path, parents: dict[str, Folder], method: dict[str, Any]
) -> None:
    alone, steps = run(Ranks(), adapt(tmp_path / "one", parents["llama tied"], method))
    (together, others), *_ = in_ranks(2, run, adapt(tmp_path / "two", parents["llama tied"], method))
    assert [step.loss for step in others] == pytest.approx([step.loss for step in steps], abs=1e-6)
    one, other = weights(alone.artifact_uri), weights(together.artifact_uri)
    assert one.keys() == other.keys()
    for name, weight in one.items():
        torch.testing.assert_close(other[name], weight, atol=1e-4, rtol=0, msg=name)


LAST_BLOCK = "model.layers.1."


@pytest.mark.parametrize(
    ("family", "spec", "trained"),
    [
        ("llama", {}, ("lm_head.",)),
        ("llama", {"lastBlocks": 1}, (LAST_BLOCK, "lm_head.")),
        ("llama tied", {"lastBlocks": 1}, (LAST_BLOCK,)),
        ("gpt2", {"lastBlocks": 1}, ("transformer.h.1.",)),
        ("llama tied", {"patterns": ["*.embed_tokens.*"]}, ("model.embed_tokens.",)),
        (
            "llama",
            {"patterns": ["*input_layernorm*", "model.norm.*"]},
            ("model.layers.0.input_layernorm.", "model.layers.1.input_layernorm.", "model.norm.", "lm_head."),
        ),
    ],
)
def test_exactly_what_is_named_changes(
    tmp_path: Path, parents: dict[str, Folder], family: str, spec: dict[str, Any], trained: tuple[str, ...]
) -> None:
    result = run_rank(adapt(tmp_path, parents[family], {"freeze": spec}), Ranks(), Silent())
    expected = {name for name in weights(parents[family].uri) if name.startswith(trained)}
    assert changed(parents[family], result.artifact_uri) == expected


def test_a_new_head_is_trained_on_a_frozen_body(tmp_path: Path, parents: dict[str, Folder]) -> None:
    config = classification(tmp_path, parents["gpt2"], method={"freeze": {}})
    after = weights(run_rank(config, Ranks(), Silent()).artifact_uri)
    before = weights(parents["gpt2"].uri)
    assert {name for name in after if name not in before} == {"score.weight"}
    assert all(torch.equal(before[name], after[name]) for name in after if name in before)


@pytest.mark.parametrize("family", ["llama", "llama tied", "gpt2"])
def test_blocks_learn_the_slower_the_further_they_are_from_the_head(family: str) -> None:
    rates = full(model(family), Full(layer_decay=0.5)).rates
    found = {rate: {name for name, each in rates.items() if each == rate} for rate in set(rates.values())}
    assert set(found) == {1.0, 0.5, 0.25, 0.125}
    assert all(".1." in name for name in found[0.5])
    assert all(".0." in name for name in found[0.25])
    assert found[0.125] <= {"model.embed_tokens.weight", "transformer.wte.weight", "transformer.wpe.weight"}
    assert "lm_head.weight" in found[1.0] or family != "llama"


def test_what_stands_between_blocks_learns_as_the_block_behind_it() -> None:
    build = Build(Architecture.model_validate(ARCHITECTURES["t5"]), small_tokenizer(), 32)
    rates = full(build.make(AutoModelForSeq2SeqLM), Full(layer_decay=0.5)).rates
    ends = ["shared.weight", "encoder.final_layer_norm.weight", "decoder.final_layer_norm.weight"]
    assert [rates[name] for name in ends] == [0.5**5, 0.5**2, 1.0]
    assert all(rate == 0.5**2 for name, rate in rates.items() if name.startswith("decoder.block.0."))


def test_each_of_two_towers_learns_the_slower_the_further_from_what_joins_them() -> None:
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = {"text_config": tower, "vision_config": {**tower, "image_size": 16, "patch_size": 8}}
    build = Build(Architecture(type="clip", config=config), small_tokenizer(), 32)
    clip = build.make(AutoModelForZeroShotImageClassification)
    rates = full(clip, Full(layer_decay=0.5)).rates
    for name in ("text_model", "vision_model"):
        blocks = [rates[f"{name}.encoder.layers.{number}.mlp.fc1.weight"] for number in (0, 1)]
        embeddings = {rate for key, rate in rates.items() if key.startswith(f"{name}.embeddings.")}
        assert (blocks, embeddings) == ([0.25, 0.5], {0.125})
    joined = ("logit_scale", "text_projection.weight", "visual_projection.weight")
    assert {rates.get(name, 1.0) for name in joined} == {1.0}


def test_where_there_are_no_blocks_learning_rates_have_nothing_to_go_by() -> None:
    made = AutoModelForImageClassification.from_config(MobileNetV1Config(depth_multiplier=0.1, image_size=32))
    with pytest.raises(UserError, match=r"^spec.method.full.layerDecay: .*mobilenet_v1 model.* no blocks"):
        full(made, Full(layer_decay=0.5))
    assert full(made, Full()).rates == {}


def test_a_block_s_first_update_is_its_share_of_a_whole_one(tmp_path: Path, parents: dict[str, Folder]) -> None:
    changes = {"training__max_steps": 1, "training__weight_decay": 0.0}
    results = {
        decay: run_rank(
            adapt(tmp_path / str(decay), parents["llama"], {"full": {"layerDecay": decay}}, **changes),
            Ranks(),
            Silent(),
        )
        for decay in (1.0, 0.5)
    }
    before, whole, less = (
        weights(each.uri if isinstance(each, Folder) else each.artifact_uri)
        for each in (parents["llama"], results[1.0], results[0.5])
    )
    for name, share in {"lm_head": 1.0, "model.layers.1.mlp.up_proj": 0.5, "model.embed_tokens": 0.125}.items():
        key = f"{name}.weight"
        torch.testing.assert_close(less[key] - before[key], share * (whole[key] - before[key]), atol=1e-7, rtol=1e-4)


def model(family: str) -> Any:
    return Build(Architecture.model_validate(FAMILIES[family]), small_tokenizer(), 32).make(AutoModelForCausalLM)


@pytest.mark.parametrize(
    ("family", "spec", "sentence"),
    [
        ("llama", Freeze(last_blocks=3), r"spec.method.freeze.lastBlocks: 3 blocks are requested, but the model has 2"),
        (
            "gpt2",
            Freeze(patterns=["*.ln_1.*", "*.layernorm.*"]),
            r"spec.method.freeze.patterns\[1\]: '\*.layernorm.\*' matches no parameter; one is named transformer.wte",
        ),
        ("llama tied", Freeze(), r"spec.method.freeze: this model has no head of its own to train; set lastBlocks or"),
    ],
)
def test_what_cannot_be_trained_is_refused(family: str, spec: Freeze, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        freeze(model(family), spec)


def test_a_model_without_attention_has_no_attention_to_update() -> None:
    mamba = Architecture(type="mamba", config={"hidden_size": 32, "num_hidden_layers": 1, "state_size": 4})
    made = Build(mamba, small_tokenizer(), 32).make(AutoModelForCausalLM)
    with pytest.raises(UserError, match=r"spec.method.lora.targets: mamba models have no such layers"):
        lora(made, Lora())
    with pytest.raises(UserError, match=r"spec.method.ia3: it does not support mamba models; use lora"):
        ia3(made, Ia3())


def test_a_model_whose_body_is_no_part_of_it_by_itself_is_updated_and_frozen_like_others() -> None:
    build = Build(Architecture.model_validate(ARCHITECTURES["t5"]), small_tokenizer(), 64)
    with pytest.raises(UserError, match="this model has no head of its own to train"):
        freeze(build.make(AutoModelForSeq2SeqLM), Freeze())
    updated = lora(build.make(AutoModelForSeq2SeqLM), Lora(rank=4)).model
    trained = [name for name, parameter in updated.named_parameters() if parameter.requires_grad]
    assert trained
    assert all(".lora_" in name for name in trained)
