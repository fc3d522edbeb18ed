"""Mixtures of experts, whose layers hold the weights of all experts in one tensor."""

from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Said
from support.jobs import Recorder, finetune, write_corpus
from support.language import TINY, small_tokenizer


@pytest.mark.parametrize(("targets", "told"), [("linear", 1), ("attention", 0)])
def test_who_updates_all_linear_layers_is_told_that_experts_are_none(tmp_path: Path, targets: str, told: int) -> None:
    parent = tmp_path / "parent"
    sizes = {**TINY["llama"], "num_local_experts": 4, "num_key_value_heads": 2}
    mixture = AutoConfig.for_model("mixtral", vocab_size=512, **sizes)
    AutoModelForCausalLM.from_config(mixture).save_pretrained(parent)
    small_tokenizer().save_pretrained(parent)
    config = finetune(
        tmp_path,
        {"causalLM": {}},
        write_corpus(tmp_path, 60),
        model={"from": {"uri": parent.as_uri()}},
        tokenizer=None,
        method={"lora": {"rank": 4, "targets": targets}},
        training__max_steps=1,
    )
    recorder = Recorder()
    run_rank(config, Ranks(), recorder)
    said = [each.text for each in recorder.of(Said) if each.text.startswith("lora does not update the model's experts")]
    assert len(said) == told
