"""Summaries and translations, by encoder-decoders and by decoders: what is read, what is learnt, what is written."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from pretune_api.model import Architecture, TokenizerTraining
from pretune_api.tasks import Summarization, Translation
from pretune_trainer.data.example import Pack, Place, Row
from pretune_trainer.data.vocabulary import train
from pretune_trainer.errors import BadRowError, UserError
from pretune_trainer.model.build import Build
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from pretune_trainer.tasks import Context
from pretune_trainer.tasks.generation import write
from pretune_trainer.tasks.text_to_text import TextToText
from support.grammar import translations
from support.group import in_ranks
from support.jobs import finetune, write_rows
from support.language import TINY, paragraphs, small_tokenizer

T5 = {"d_model": 32, "d_ff": 64, "d_kv": 16, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0}
BART: dict[str, Any] = {"d_model": 32, "dropout": 0.0, "attention_dropout": 0.0} | {
    f"{side}_{name}": value
    for side in ("encoder", "decoder")
    for name, value in {"layers": 2, "attention_heads": 2, "ffn_dim": 64}.items()
}
SHAPES = {"t5": T5, "bart": BART, **TINY}


def task(spec: Summarization | Translation, *, both: bool = True, length: int = 64) -> TextToText:
    return TextToText(Context(spec, copy.deepcopy(small_tokenizer()), length, not both, False, 0, both))


def row(**values: object) -> Row:
    return Row(values, Place("file:///news.jsonl", 3), "text")


def read(task: TextToText, example: Any) -> str:
    ids = example["ids"] if task.both else example["ids"][example["mask"] == 0]
    text: str = task.tokenizer.decode(ids)
    return text


SHORT = {"max_target_tokens": 16}


@pytest.mark.parametrize(
    ("spec", "both", "expected"),
    [
        (Summarization(**SHORT), True, "Rain all day."),
        (Summarization(**SHORT), False, "<s>Rain all day.\n"),
        (Summarization(prompt="summarize: {text}", **SHORT), True, "summarize: Rain all day."),
        (Translation(target_column="summary", language_column="to", **SHORT), True, "<de> Rain all day."),
        (
            Translation(target_column="summary", language_column="to", prompt="{text} ({language}) ", **SHORT),
            False,
            "<s>Rain all day. (de) ",
        ),
    ],
)
def test_what_is_read_has_its_prompt_and_language(spec: Any, both: bool, expected: str) -> None:
    writing = task(spec, both=both)
    ((example,),) = writing.examples([row(text="Rain all day.", summary="Wet.", to="de")])
    assert read(writing, example) == expected


@pytest.mark.parametrize("both", [True, False])
def test_a_long_text_is_cut_at_its_end_to_be_summarised_and_its_prompt_stays(both: bool) -> None:
    writing = task(Summarization(prompt="Say in short: {text} => ", **SHORT), both=both)
    ((example,),) = writing.examples([row(text="word " * 200, summary="Words.")])
    assert len(example["ids"]) == (64 if both else 64 - 16 + int(example["mask"].sum()))
    assert "Say in short: word" in read(writing, example)
    assert read(writing, example).endswith(" => ")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"text": "word " * 200, "translation": "x"}, "the text has 401 tokens, but a row has room for 64; raise"),
        ({"text": "a", "translation": "word " * 40}, "'translation' has .* tokens, but spec.task.translation.maxTarge"),
        ({"text": "a", "translation": ""}, "column 'translation' holds '', expected text"),
        ({"text": "a", "translation": None}, "column 'translation' holds null, expected text"),
        ({"text": "a"}, "there is no column 'translation'"),
    ],
)
def test_what_does_not_fit_is_named_with_its_file_and_row(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadRowError, match=rf"^file:///news.jsonl row 3: .*{sentence}"):
        list(task(Translation(**SHORT)).examples([row(**values)]))


@pytest.mark.parametrize("family", ["bart", "llama"])
def test_a_model_ends_what_it_writes_as_the_answers_end(family: str) -> None:
    tokenizer = train(TokenizerTraining(algorithm="wordpiece", vocab_size=400), iter(paragraphs()[:800]), 64)
    both = family == "bart"
    writing = TextToText(Context(Summarization(**SHORT), tokenizer, 64, not both, False, 0, both))
    model = writing.model(Build(Architecture(type=family, config=SHAPES[family]), tokenizer, 64))
    assert (writing.end, model.generation_config.eos_token_id) == (tokenizer.sep_token_id, tokenizer.sep_token_id)


def test_a_row_without_room_to_read_is_refused() -> None:
    with pytest.raises(UserError, match=r"^spec.task.summarization.maxTargetTokens: 128 leaves no room"):
        task(Summarization(), both=False)


@pytest.mark.parametrize("family", ["t5", "bart", "gpt2", "llama"])
def test_the_loss_is_that_of_transformers_and_each_text_is_written_as_if_it_were_alone(family: str) -> None:
    both = family in ("t5", "bart")
    writing = task(Translation(**SHORT), both=both)
    model = writing.model(Build(Architecture(type=family, config=SHAPES[family]), writing.tokenizer, 64)).eval()
    rows = [row(text=text, translation=said) for text, said in (("One two three.", "Un."), ("Four.", "Quatre cinq."))]
    packs = [Pack((example,)) for (example,) in writing.examples(rows)]
    batch = writing.batch([*packs, Pack()])
    ours = writing.loss(model, batch)["lm"].detach() / batch.counts["lm"]
    if both:
        theirs = model(**batch.inputs, labels=batch.targets["lm"]).loss
    else:
        labels = torch.nn.functional.pad(batch.targets["lm"], (1, 0), value=IGNORED)[:, :-1]
        theirs = model(**batch.inputs, labels=labels).loss
    torch.testing.assert_close(ours, theirs)
    (draft,) = writing.evaluate(model, batch)
    assert [each.reference for each in draft.written] == ["Un.", "Quatre cinq."]
    prompts = [np.array(list(range(4, 12))), np.array([5, 6, 7])]
    together = write(model, prompts, writing.pad, 6, 1)
    alone = [write(model, [prompt], writing.pad, 6, 1)[0] for prompt in prompts]
    assert [ids[: len(other)] for ids, other in zip(together, alone, strict=True)] == alone


def test_a_parent_that_draws_its_words_at_random_writes_the_likeliest_to_be_judged() -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **TINY["llama"], vocab_size=512)).eval()
    prompts, common = [np.arange(4, 12)], {"pad": 3, "most": 12, "beams": 1}
    expected = write(model, prompts, **common)
    model.generation_config.update(do_sample=True, temperature=2.0, top_p=0.9, num_beams=3, max_length=10)
    assert [write(model, prompts, **common) for _ in range(3)] == [expected] * 3


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize(
    "said",
    [
        {"do_sample": True, "num_return_sequences": 3},
        {"return_dict_in_generate": True, "output_scores": True},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
        {"prompt_lookup_num_tokens": 3},
        {"stop_strings": ["."]},
        {"cache_implementation": "quantized"},
    ],
)
def test_each_prompt_has_one_text_to_be_judged_however_its_parent_would_write(said: dict[str, Any], beams: int) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **TINY["llama"], vocab_size=512)).eval()
    prompts, common = [np.arange(4, 12), np.arange(20, 25)], {"pad": 3, "most": 12, "beams": beams}
    expected = write(model, prompts, **common)
    model.generation_config.update(**said)
    assert write(model, prompts, **common) == expected


@pytest.mark.parametrize("beams", [1, 4])
def test_a_decoder_that_is_deeper_than_its_encoder_writes(beams: int) -> None:
    writing = task(Summarization(**SHORT))
    deep = Architecture(type="t5", config=T5 | {"num_layers": 1, "num_decoder_layers": 3})
    torch.manual_seed(0)
    model = writing.model(Build(deep, writing.tokenizer, 64)).eval()
    (written,) = write(model, [np.arange(4, 12)], writing.pad, 6, beams)
    best = model.generate(torch.arange(4, 12)[None], max_new_tokens=6, num_beams=beams, use_cache=False)
    assert written == best[0].tolist()


def test_texts_and_answers_end_where_the_positions_of_a_model_end() -> None:
    writing = task(Summarization(max_target_tokens=21), length=21)
    model = writing.model(Build(Architecture(type="bart", config=BART), writing.tokenizer, 21)).eval()
    ((example,),) = writing.examples([row(text="word " * 40, summary="to be or not")])
    batch = writing.batch([Pack(({**example, "answer": np.resize(example["answer"], 21)},))])
    assert batch.inputs["input_ids"].shape[1] == batch.targets["lm"].shape[1] == model.config.max_position_embeddings
    assert len(writing.evaluate(model, batch)) == 1


@pytest.mark.parametrize(
    ("metrics", "writes"), [(None, True), (["loss", "chrf"], True), (["loss", "perplexity"], False)]
)
def test_a_model_writes_where_a_metric_looks_at_it(metrics: list[str] | None, writes: bool) -> None:
    spec, tokenizer = Translation(**SHORT), copy.deepcopy(small_tokenizer())
    writing = TextToText(Context(spec, tokenizer, 64, False, False, 0, encoder_decoder=True, metrics=metrics))
    model = writing.model(Build(Architecture(type="t5", config=T5), tokenizer, 64)).eval()
    ((example,),) = writing.examples([row(text="One.", translation="Un.")])
    (draft,) = writing.evaluate(model, writing.batch([Pack((example,))]))
    (report,) = writing.metrics()
    report.update([draft])
    assert len(draft.written) == writes
    assert {"loss", "perplexity"} <= {name for name, value in report.result().items() if np.isfinite(value)}


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_a_made_up_language_is_translated(tmp_path: Path, family: str) -> None:
    config = finetune(
        tmp_path,
        {"translation": {"maxTargetTokens": 16}},
        write_rows(tmp_path / "pairs.jsonl", translations(500, seed=1)),
        model__architecture={"type": family, "config": SHAPES[family]},
        tokenizer={"train": {"vocabSize": 300}},
        data__sequence_length=48,
        training__max_steps=120 if family == "llama" else 300,
    )
    result = run_rank(config, Ranks(), Silent())
    assert result.metrics["exactMatch"] > 0.8
    assert result.metrics["bleu"] > 80
    if family == "t5":
        folder = result.artifact_uri.removeprefix("file://")
        model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        written = model.generate(**tokenizer("a bird likes water", return_tensors="pt"), max_new_tokens=16)
        assert tokenizer.decode(written[0], skip_special_tokens=True) == "pita akva amal"


def written_by(ranks: Ranks, folder: Path, family: str) -> dict[str, float]:
    config = finetune(
        folder / str(ranks.size),
        {"translation": {"maxTargetTokens": 24}},
        (folder / "pairs.jsonl").as_uri(),
        model__architecture={"type": family, "config": SHAPES[family]},
        tokenizer={"from": {"uri": (folder / "tokenizer").as_uri()}},
        training__max_steps=3,
    )
    return run_rank(config, ranks, Silent()).metrics


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_two_ranks_write_what_one_writes(tmp_path: Path, family: str) -> None:
    write_rows(tmp_path / "pairs.jsonl", translations(60, seed=1))
    small_tokenizer().save_pretrained(tmp_path / "tokenizer")
    alone = written_by(Ranks(), tmp_path, family)
    for figures in in_ranks(2, written_by, tmp_path, family):
        assert figures == pytest.approx(alone, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_a_rank_that_has_no_text_left_writes_nothing(family: str) -> None:
    writing = task(Summarization(**SHORT), both=family == "t5")
    architecture = Architecture(type=family, config=SHAPES[family])
    model = writing.model(Build(architecture, writing.tokenizer, 64)).eval()
    (draft,) = writing.evaluate(model, writing.batch([Pack()]))
    assert (draft.written, draft.likelihood.targets) == ((), 0)
