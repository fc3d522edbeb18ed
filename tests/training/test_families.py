"""Families of models that users bring: what is learnt is what transformers computes, and their parts are found."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForCTC,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForZeroShotImageClassification,
)

from pretune_api.methods import Adapter, Freeze, Lora
from pretune_api.model import Architecture
from pretune_trainer.data.example import Pack
from pretune_trainer.errors import UserError
from pretune_trainer.methods.adapter import adapter
from pretune_trainer.methods.freeze import freeze
from pretune_trainer.methods.lora import lora
from pretune_trainer.methods.updates import new_heads
from pretune_trainer.model.body import body_of
from pretune_trainer.model.build import Build
from pretune_trainer.model.image_size import images_for
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from pretune_trainer.step import blocks_of
from pretune_trainer.tasks.language import Packer, check_head, language_model, next_token_loss, next_token_losses
from support.jobs import pretrain
from support.language import TINY, small_tokenizer
from support.speech import ARCHITECTURES as SOUNDS

LENGTH = 32
CHANGED_LOGITS: dict[str, dict[str, Any]] = {
    "cohere": {"logit_scale": 0.25, "num_key_value_heads": 1},
    "cohere2": {"logit_scale": 0.25, "num_key_value_heads": 1},
    "gemma2": {"final_logit_softcapping": 1.0, "num_key_value_heads": 1, "head_dim": 16},
    "granite": {"logits_scaling": 4.0, "num_key_value_heads": 1},
}
_SIDES = {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
_SEQ2SEQ = {
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
    "d_model": 32,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    **_SIDES,
}
_ENCODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_EXPERTS = {"num_local_experts": 2, "intermediate_size_mlp": 64}
LLAMA4 = {**TINY["llama"], **_EXPERTS, "num_key_value_heads": 1, "head_dim": 16}
BLOCKS: dict[str, tuple[Any, dict[str, Any], list[str]]] = {
    "deberta-v2": (AutoModelForMaskedLM, _ENCODER, ["deberta.encoder.layer.0", "deberta.encoder.layer.1"]),
    "distilbert": (
        AutoModelForMaskedLM,
        {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
        ["distilbert.transformer.layer.0", "distilbert.transformer.layer.1"],
    ),
    "electra": (AutoModelForMaskedLM, _ENCODER, ["electra.encoder.layer.0", "electra.encoder.layer.1"]),
    "longformer": (
        AutoModelForMaskedLM,
        {**_ENCODER, "attention_window": 8},
        ["longformer.encoder.layer.0", "longformer.encoder.layer.1"],
    ),
    "marian": (
        AutoModelForSeq2SeqLM,
        _SEQ2SEQ,
        [f"model.{side}.layers.{number}" for side in ("encoder", "decoder") for number in (0, 1)],
    ),
    "mbart": (
        AutoModelForSeq2SeqLM,
        _SEQ2SEQ,
        [f"model.{side}.layers.{number}" for side in ("encoder", "decoder") for number in (0, 1)],
    ),
    "roberta": (AutoModelForMaskedLM, _ENCODER, ["roberta.encoder.layer.0", "roberta.encoder.layer.1"]),
    "swin": (
        AutoModelForImageClassification,
        {"embed_dim": 16, "depths": [2, 1], "num_heads": [2, 2], "image_size": 32},
        ["swin.encoder.layers.0", "swin.encoder.layers.1"],
    ),
}
"""By type: how it is made, and the names of its blocks."""


@pytest.mark.parametrize("family", CHANGED_LOGITS)
def test_logits_that_a_model_scales_or_caps_are_learnt_from(family: str) -> None:
    torch.manual_seed(0)
    fields = {**TINY["llama"], **CHANGED_LOGITS[family], "initializer_range": 0.5}
    model = language_model(Build(Architecture(type=family, config=fields), small_tokenizer(), LENGTH)).eval()
    ids = torch.randint(5, 500, (LENGTH,))
    batch = Packer(LENGTH, pad=3, by_boundaries=False).next_token([Pack(({"ids": ids.int().numpy()},))])
    with torch.no_grad():
        logits = model(input_ids=ids[None], use_cache=False).logits[0]
        expected = F.cross_entropy(logits[:-1], ids[1:], reduction="none")
        losses = next_token_losses(model, batch)[batch.targets["lm"].flatten() != IGNORED]
        torch.testing.assert_close(losses, expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(next_token_loss(model, batch), expected.sum(), atol=1e-3, rtol=0)
        plain = model.lm_head(model.base_model(input_ids=ids[None]).last_hidden_state)
        assert (plain - logits).abs().max() > 0.1


def test_a_body_that_is_not_where_its_class_says_is_found() -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama4_text", vocab_size=64, **LLAMA4))
    assert model.base_model is model
    assert body_of(model) is model.model
    check_head(model)


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("xlnet", {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}),
        ("xlm", {"emb_dim": 32, "n_layers": 2, "n_heads": 2}),
    ],
)
def test_models_that_see_what_they_are_to_predict_are_refused(family: str, fields: dict[str, Any]) -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, vocab_size=64, pad_token_id=0, **fields))
    with pytest.raises(UserError, match=f"models of type '{family}' see the tokens that they are to predict; use a"):
        check_head(model)


@pytest.mark.parametrize("family", BLOCKS)
def test_blocks_are_whole_whatever_a_family_calls_what_is_not_to_be_split(family: str) -> None:
    auto, fields, expected = BLOCKS[family]
    with torch.device("meta"):
        model = auto.from_config(AutoConfig.for_model(family, vocab_size=64, **fields))
    names = {module: name for name, module in model.named_modules()}
    assert [names[block] for block in blocks_of(model)] == expected
    trained = freeze(model, Freeze(last_blocks=1)).model
    parts = {name.startswith(f"{expected[-1]}.") for name, each in trained.named_parameters() if each.requires_grad}
    assert True in parts


def test_blocks_that_cannot_be_recomputed_are_refused(tmp_path: Path) -> None:
    fields = {**_ENCODER, "embedding_size": 16, "inner_group_num": 1}
    config = pretrain(
        tmp_path,
        objective={"maskedLM": {}},
        model__architecture={"type": "albert", "config": fields},
        tokenizer={"train": {"algorithm": "wordpiece", "vocabSize": 512}},
        training__activation_checkpointing=True,
    )
    with pytest.raises(UserError, match=r"^spec.training.activationCheckpointing: the blocks of albert models cannot"):
        run_rank(config, Ranks(), Silent())


@pytest.mark.parametrize(
    ("auto", "family", "fields", "heads"),
    [
        (AutoModelForCausalLM, "llama", TINY["llama"], []),
        (AutoModelForCausalLM, "biogpt", _ENCODER, []),
        (AutoModelForCausalLM, "llama4_text", LLAMA4, []),
        (AutoModelForSequenceClassification, "llama", TINY["llama"], ["score"]),
        (AutoModelForSequenceClassification, "roberta", _ENCODER, ["classifier.dense", "classifier.out_proj"]),
        (AutoModelForCTC, "wav2vec2", SOUNDS["wav2vec2"]["config"], ["lm_head"]),
    ],
)
def test_heads_that_a_task_brings_are_trained_beside_updates(
    auto: Any, family: str, fields: dict[str, Any], heads: list[str]
) -> None:
    """A head of letters is new, though it has the name of one that comes with its parent."""
    with torch.device("meta"):
        model = auto.from_config(AutoConfig.for_model(family, vocab_size=64, pad_token_id=0, **fields))
    assert new_heads(model) == heads
    trained = lora(model, Lora(rank=2)).model
    names = {name for name, each in trained.named_parameters() if each.requires_grad and "lora_" not in name}
    assert {name.split(".modules_to_save")[0] for name in names} == set(heads)


def test_a_type_with_several_classes_for_a_task_is_made_as_the_first(tmp_path: Path) -> None:
    build = Build(Architecture(type="deit", config={**_ENCODER, "image_size": 16, "patch_size": 8}), None, 1)
    model = build.make(AutoModelForImageClassification, num_labels=2)
    assert type(model).__name__ == "DeiTForImageClassification"
    model.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).architectures == ["DeiTForImageClassification"]


def test_models_that_take_patches_instead_of_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"^spec.model.architecture: siglip2 models take patches of images of any"):
        images_for(Architecture(type="siglip2"), None, "spec.task.imageClassification.imageSize")


def test_updates_leave_alone_what_mamba_computes_by_its_weights() -> None:
    fields = {"hidden_size": 32, "num_hidden_layers": 1, "state_size": 4}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("mamba", vocab_size=64, **fields))
    trained = lora(model, Lora(rank=2, targets="linear")).model
    layers = {name.split(".lora_")[0].rpartition(".")[2] for name, _ in trained.named_parameters() if "lora_" in name}
    assert layers == {"in_proj", "x_proj", "dt_proj"}


@pytest.mark.parametrize(
    ("auto", "family", "fields", "ends"),
    [
        (AutoModelForMaskedLM, "distilbert", BLOCKS["distilbert"][1], {"attention.out_lin", "ffn.lin2"}),
        (AutoModelForMaskedLM, "electra", _ENCODER, {"attention.output.dense", "output.dense"}),
        (
            AutoModelForCausalLM,
            "gptj",
            {"n_embd": 32, "n_layer": 2, "n_head": 2, "rotary_dim": 8},
            {"attn.out_proj", "mlp.fc_out"},
        ),
    ],
)
def test_bottlenecks_stand_behind_both_parts_of_each_block(
    auto: Any, family: str, fields: dict[str, Any], ends: set[str]
) -> None:
    with torch.device("meta"):
        model = auto.from_config(AutoConfig.for_model(family, vocab_size=64, **fields))
        blocks = [name for name, module in model.named_modules() if module in set(blocks_of(model))]
        names = [name for name, _ in adapter(model, Adapter(channels=2)).model.named_modules()]
    found = {name.removesuffix(".bottleneck_up") for name in names if name.endswith(".bottleneck_up")}
    assert found == {f"{block}.{end}" for block in blocks for end in ends}


@pytest.mark.parametrize(
    ("auto", "family", "fields", "sizes"),
    [
        (AutoModelForSequenceClassification, "roberta", _ENCODER, ("num_labels", 5, 2)),
        (AutoModelForSequenceClassification, "bart", _SEQ2SEQ, ("num_labels", 5, 2)),
        (AutoModelForCTC, "wav2vec2", SOUNDS["wav2vec2"]["config"], ("vocab_size", 64, 40)),
    ],
)
def test_the_code_that_loads_updates_alone_makes_room_for_their_head(
    tmp_path: Path, auto: Any, family: str, fields: dict[str, Any], sizes: tuple[str, int, int]
) -> None:
    """A parent's head may be another task's, of another size."""
    name, before, after = sizes
    config = AutoConfig.for_model(family, **{"vocab_size": 64, "pad_token_id": 0, name: before, **fields})
    auto.from_config(config).save_pretrained(tmp_path / "parent")
    arguments = {name: after, "ignore_mismatched_sizes": True}
    tuned = lora(auto.from_pretrained(tmp_path / "parent", **arguments), Lora(rank=2, merge=False))
    heads = {name: weight.clone() for name, weight in tuned.model.state_dict().items() if "modules_to_save" in name}
    tuned.save(tmp_path / "updates", torch.float32)
    code = tuned.loading.replace("PARENT", str(tmp_path / "parent")).replace("THIS FOLDER", str(tmp_path / "updates"))
    loaded: dict[str, Any] = {}
    exec(code, loaded)
    found = loaded["model"].get_base_model().state_dict()
    assert heads
    for weight_name, weight in heads.items():
        assert torch.equal(found[weight_name], weight), weight_name


def test_updates_of_a_model_without_a_head_of_a_task_s_own_need_no_room_for_one() -> None:
    towers = {"text_config": _ENCODER, "vision_config": {**_ENCODER, "image_size": 16, "patch_size": 8}}
    with torch.device("meta"):
        clip = AutoModelForZeroShotImageClassification.from_config(AutoConfig.for_model("clip", **towers))
        bert = AutoModel.from_config(AutoConfig.for_model("bert", **_ENCODER))
        codes = [lora(model, Lora(rank=2, merge=False)).loading for model in (clip, bert)]
    assert all('.from_pretrained("PARENT")' in code for code in codes), codes
