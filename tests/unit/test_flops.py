"""Model FLOPs utilization is arithmetic that anyone can check."""

import math
from typing import Any, Literal

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from pretune_api.training import Training
from pretune_trainer.model.flops import Utilization, flops_per_token, peak_flops, utilization
from pretune_trainer.parallel import Ranks
from support.language import TINY
from support.objectives import ARCHITECTURES


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H200", 989.4),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.0),
    ],
)
def test_common_devices_peaks_are_known_by_their_names(name: str, tera: float) -> None:
    assert peak_flops(name) == pytest.approx(tera * 1e12)


@pytest.mark.parametrize("name", ["Tesla V100-SXM2-16GB", "NVIDIA A1000", "NVIDIA A100-SXM4-80GB MIG 3g.40gb", ""])
def test_a_device_without_bf16_in_part_or_unheard_of_has_no_peak(name: str) -> None:
    assert math.isnan(peak_flops(name))


def test_a_token_costs_six_flops_a_parameter_and_four_where_it_is_frozen() -> None:
    assert flops_per_token(computed=100, trained=100) == 600
    assert flops_per_token(computed=100, trained=0) == 400


def test_utilization_is_the_share_of_the_peak() -> None:
    known, unknown = (Utilization(flops_per_token=4e9, flops_per_logits=2e9, peak=peak) for peak in (1e15, math.nan))
    assert known.of(tokens=100_000, predicted=100_000, seconds=1.0) == pytest.approx(0.6)
    assert known.of(tokens=100_000, predicted=10_000, seconds=1.0) == pytest.approx(0.42)
    assert math.isnan(unknown.of(tokens=1, predicted=1, seconds=1.0))


def training(precision: Literal["fp32", "bf16"] = "bf16") -> Training:
    return Training(max_steps=1, tokens_per_step=64, precision=precision)


LLAMA, BERT = TINY["llama"], ARCHITECTURES["bert"]["config"]


@pytest.mark.parametrize(
    ("auto", "kind", "fields", "tables", "heads"),
    [
        (AutoModelForCausalLM, "llama", LLAMA | {"tie_word_embeddings": False}, 2, 1),
        (AutoModelForCausalLM, "llama", LLAMA | {"tie_word_embeddings": True}, 1, 1),
        (AutoModelForSequenceClassification, "bert", BERT | {"tie_word_embeddings": True}, 1, 0),
    ],
)
def test_an_embedding_costs_something_only_where_it_is_the_head_too_and_then_for_what_is_predicted(
    auto: Any, kind: str, fields: dict[str, Any], tables: int, heads: int
) -> None:
    model = auto.from_config(AutoConfig.for_model(kind, vocab_size=512, **fields))
    table = model.get_input_embeddings().weight.numel()
    body = sum(parameter.numel() for parameter in model.parameters()) - tables * table
    found = utilization(model, training(), Ranks())
    assert (found.flops_per_token, found.flops_per_logits) == (6 * body, 6 * heads * table)
    model.requires_grad_(False)
    found = utilization(model, training(), Ranks())
    assert (found.flops_per_token, found.flops_per_logits) == (4 * body, 4 * heads * table)


def test_a_peak_is_that_of_all_ranks_and_known_for_bf16_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A10")
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", vocab_size=512, **LLAMA))
    ranks = Ranks(size=2, device=torch.device("cuda"))
    assert utilization(model, training("bf16"), ranks).peak == 250e12
    assert math.isnan(utilization(model, training("fp32"), ranks).peak)
    assert math.isnan(utilization(model, training("bf16"), Ranks()).peak)
