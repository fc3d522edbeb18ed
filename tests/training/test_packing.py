"""Packed documents are computed as if each were alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import varlen
from transformers import AutoModelForCausalLM, GPT2Config

from pretune_api.model import Architecture
from pretune_trainer.data.example import Example, Pack
from pretune_trainer.inputs import Vocabulary, design
from pretune_trainer.model.attention import PACKING_FAMILIES, VARLEN, attention_for, boundaries, needs_masks
from pretune_trainer.model.build import Build
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.model.origin import Source
from pretune_trainer.tasks.language import Packer, check_head, next_token_losses
from support.jobs import pretrain
from support.language import PACKED, TINY, small_tokenizer

LENGTH = 32
BF16 = {"training__precision": "bf16"}
FAMILIES = {**PACKED, **TINY}
MASKED = [family for family in FAMILIES if needs_masks(Architecture(type=family, config=FAMILIES[family]))]


def _examples(lengths: list[int]) -> list[Example]:
    random = np.random.default_rng(0)
    return [{"ids": random.integers(5, 500, size).astype(np.int32)} for size in lengths]


def _losses(family: str, packs: list[Pack], attention: str | None = None) -> torch.Tensor:
    torch.manual_seed(0)
    build = Build(Architecture(type=family, config=FAMILIES[family]), small_tokenizer(), LENGTH, attention)
    model = build.make(AutoModelForCausalLM).eval()
    for weight in model.parameters():
        if weight.ndim > 1:  # new models hardly look at other tokens
            nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
    check_head(model)
    model.eval()
    packer = Packer(LENGTH, pad=3, by_boundaries=attention == VARLEN)
    batch = packer.next_token(packs)
    with torch.no_grad():
        losses = next_token_losses(model, batch)
    return losses[batch.targets["lm"].flatten() != IGNORED]


@pytest.mark.parametrize("family", sorted(PACKING_FAMILIES))
def test_packed_documents_do_not_see_each_other(family: str) -> None:
    examples = _examples([9, 14, 7, 20, 12])
    together = _losses(family, [Pack(tuple(examples[:3])), Pack(tuple(examples[3:]))])
    alone = _losses(family, [Pack((example,)) for example in examples])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_every_packing_family_is_tried() -> None:
    assert set(FAMILIES) == PACKING_FAMILIES
    assert sorted(MASKED) == ["deepseek_v3", "gemma2"]


def test_each_token_predicts_the_next_one_of_its_own_document() -> None:
    first, second = _examples([4, 3])
    batch = Packer(8, pad=3, by_boundaries=False).next_token([Pack((first, second)), Pack()])
    expected = [*first["ids"][1:], IGNORED, *second["ids"][1:], IGNORED, IGNORED]
    assert batch.targets["lm"][0].tolist() == expected
    assert batch.inputs["position_ids"][0].tolist() == [0, 1, 2, 3, 0, 1, 2, 0]
    assert batch.counts == {"lm": 5}
    assert batch.tokens == 7
    assert (batch.targets["lm"][1] == IGNORED).all()


def test_a_mask_leaves_out_what_is_not_learnt() -> None:
    (example,) = _examples([5])
    masked = {**example, "mask": np.array([0, 0, 1, 0, 1], np.uint8)}
    batch = Packer(6, pad=3, by_boundaries=False).next_token([Pack((masked,))])
    ids = example["ids"].tolist()
    assert batch.targets["lm"][0].tolist() == [IGNORED, ids[2], IGNORED, ids[4], IGNORED, IGNORED]


def test_boundaries_tell_where_documents_begin_and_come_in_few_shapes() -> None:
    positions = np.array([[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]])
    told = boundaries(positions)
    ends, others = told["cu_seq_lens_q"], boundaries(np.zeros((1, 65), np.int64))["cu_seq_lens_q"]
    assert isinstance(ends, torch.Tensor)
    assert ends.tolist() == [0, 3, 5, 6, *[12] * 61]
    assert ends.dtype == torch.int32
    assert told["max_length_q"] == 6
    assert isinstance(others, torch.Tensor)
    assert len(others) == 128 + 1


def _by_documents(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
    ends_of_keys: torch.Tensor,
    longest: int,
    longest_key: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
) -> torch.Tensor:
    """What torch's varlen_attn computes on a GPU, on the CPU: one document after the other."""
    assert ends is ends_of_keys
    assert longest == longest_key == LENGTH
    assert query.shape[-1] % 8 == 0
    assert query.shape == key.shape == value.shape
    parts = []
    for start, end in zip(ends.tolist(), ends[1:].tolist(), strict=False):
        q, k, v = (tensor[start:end].transpose(0, 1)[None] for tensor in (query, key, value))
        distance = torch.arange(end - start)[:, None] - torch.arange(end - start)
        seen = (distance >= 0) & ((distance <= window_size[0]) | (window_size[0] < 0))
        parts.append(F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale)[0].transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("family", sorted(PACKING_FAMILIES.difference(MASKED)))
def test_on_a_gpu_the_documents_boundaries_reach_the_kernel(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel runs on GPUs alone; what is handed to it, and what is made of its result, is tried here."""
    monkeypatch.setattr(varlen, "varlen_attn", _by_documents)
    attention = attention_for(torch.device("cuda"), "bf16", packs=True)
    packs = [Pack(tuple(_examples([9, 14, 7]))), Pack(tuple(_examples([20, 12])))]
    told = _losses(family, packs, attention)
    torch.testing.assert_close(told, _losses(family, packs), atol=1e-5, rtol=0)


def test_a_sliding_window_reaches_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", _by_documents)
    monkeypatch.setitem(FAMILIES, "mistral", TINY["mistral"] | {"sliding_window": 5})
    attention = attention_for(torch.device("cuda"), "bf16", packs=True)
    packs = [Pack(tuple(_examples([20, 12])))]
    told = _losses("mistral", packs, attention)
    torch.testing.assert_close(told, _losses("mistral", packs), atol=1e-5, rtol=0)
    monkeypatch.setitem(FAMILIES, "mistral", TINY["mistral"] | {"sliding_window": None})
    assert not torch.allclose(told, _losses("mistral", packs), atol=1e-3)


def test_heads_of_any_width_reach_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", _by_documents)
    monkeypatch.setitem(FAMILIES, "gpt2", TINY["gpt2"] | {"n_embd": 24})
    attention = attention_for(torch.device("cuda"), "bf16", packs=True)
    packs = [Pack(tuple(_examples([20, 12])))]
    torch.testing.assert_close(_losses("gpt2", packs, attention), _losses("gpt2", packs), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_the_kernel_is_given_16_bit_numbers_whatever_rotation_and_norms_make_of_them(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: set[torch.dtype] = set()

    def kernel(*tensors: Any, **fields: Any) -> torch.Tensor:
        given.update(tensor.dtype for tensor in tensors[:3])
        return _by_documents(*tensors, **fields)

    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    attention = attention_for(torch.device("cuda"), "bf16", packs=True)
    with torch.autocast("cpu", torch.bfloat16):
        _losses(family, [Pack(tuple(_examples([20, 12])))], attention)
    assert given == {torch.bfloat16}


@pytest.mark.parametrize(
    ("fields", "attention"), [({}, None), ({"attn_pdrop": 0.1}, None), ({"attn_pdrop": 0.0}, VARLEN)]
)
def test_what_the_kernel_cannot_leave_out_at_random_is_left_to_transformers(
    tmp_path: Path, fields: dict[str, float], attention: str | None
) -> None:
    GPT2Config(**fields).save_pretrained(tmp_path)
    for origin in (Architecture(type="gpt2", config=fields), Source(str(tmp_path))):
        made = design(pretrain(tmp_path, **BF16), origin, Vocabulary(small_tokenizer()), torch.device("cuda"))
        assert made.build.attention == attention


def test_the_kernel_is_for_16_bit_numbers_on_gpus_alone() -> None:
    cuda = torch.device("cuda")
    assert attention_for(cuda, "fp32", packs=True) is None
    assert attention_for(cuda, "bf16", packs=False) is None
    assert attention_for(torch.device("cpu"), "bf16", packs=True) is None
