"""Speech is written down: read from tables and files, learnt the same wherever and whenever, or refused."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoTokenizer, pipeline

from pretune_trainer.data.audio import FULL, checked, decode, resampled
from pretune_trainer.data.example import Pack
from pretune_trainer.data.stream import held_out
from pretune_trainer.errors import UserError
from pretune_trainer.inputs import Inputs
from pretune_trainer.model.sounds import CTC_FAMILIES
from pretune_trainer.parallel import Ranks
from pretune_trainer.tasks.base import Batch
from pretune_trainer.tasks.speech_ctc import SpeechCtc
from support.group import in_ranks
from support.jobs import classification
from support.runs import as_parent, assert_same_bits, gathered, named, path_of, run, run_until, weights_of
from support.speech import ARCHITECTURES, RATE, listening, sound_file, spoken, write_clips

KINDS = ["wav2vec2", "whisper"]
CLIP_BY_CLIP: dict[str, Any] = {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False}
"""As hubert-base: rows cannot be computed side by side."""
WILD = {"wav2vec2": {"initializer_range": 1.0}, "whisper": {"init_std": 1.0}}
"""Weights so large that a model which has learnt nothing writes something else for each clip."""


def clips(folder: Path, kind: str = "wav2vec2", count: int = 60) -> str:
    rate = 16_000 if kind == "whisper" else RATE
    return write_clips(folder / "clips.parquet", spoken(count, rate=rate))


def changed(kind: str, **config: Any) -> dict[str, Any]:
    return {"type": kind, "config": ARCHITECTURES[kind]["config"] | config}


def packs_of(inputs: Inputs) -> list[Pack]:
    return list(held_out(inputs.cache.validation, inputs.task.layout))


@pytest.mark.parametrize("kind", KINDS)
def test_an_artifact_is_a_pipeline_that_writes_what_the_evaluation_saw(tmp_path: Path, kind: str) -> None:
    wild = changed(kind, **WILD[kind])
    training: dict[str, Any] = {"training__max_steps": 1, "training__learning_rate": 1e-9}
    config = listening(tmp_path, clips(tmp_path, kind), kind, model__architecture=wild, **training)
    result, _ = run(Ranks(), config)
    how = {"generate_kwargs": {"num_beams": 1}} if kind == "whisper" else {}
    hears = pipeline("automatic-speech-recognition", model=str(path_of(result)), **how)
    inputs = gathered(config)
    packs = packs_of(inputs)
    model = inputs.make_model().model
    model.load_state_dict(weights_of(result), strict=False)
    with torch.no_grad():
        seen = [outcome.written for outcome in inputs.task.evaluate(model.eval(), inputs.task.batch(packs))]
    said = [hears(pack.examples[0]["audio"].astype(np.float32) / FULL)["text"].strip() for pack in packs]
    assert len(set(said)) > 3
    assert said == seen


def test_audio_is_what_it_was_at_the_rate_that_the_model_reads() -> None:
    time = np.arange(16_000) / 16_000
    wave = (0.4 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    for form in ("WAV", "FLAC", "OGG"):
        stereo = np.stack([1.5 * wave, 0.5 * wave], axis=1)
        audio = checked(sound_file(stereo, 16_000, form), "a", 8_000, 2.0)
        assert audio.dtype == np.int16
        assert len(audio) == 8_000
        np.testing.assert_allclose(audio[100:-100] / FULL, wave[::2][100:-100], atol=0.02)
    whole = np.random.default_rng(1).integers(-FULL, FULL, 500).astype(np.int16)
    kept, rate = decode(sound_file(whole))
    np.testing.assert_array_equal(resampled(kept, rate, RATE), whole)


@pytest.mark.parametrize(
    ("form", "coding"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")]
)
def test_audio_that_is_decoded_piece_by_piece_is_what_it_is_as_a_whole(form: str, coding: str) -> None:
    file, samples = io.BytesIO(), np.random.default_rng(1).uniform(-0.5, 0.5, (2**20 + 77, 2))
    with soundfile.SoundFile(file, "w", 48_000, 2, coding, format=form) as written:
        for piece in np.array_split(samples, 256):  # all at once, Vorbis would overflow
            written.write(piece)
    whole = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")[0]
    np.testing.assert_array_equal(decode(file.getvalue())[0], whole.mean(axis=1))


def flac_that_says(samples: int) -> bytes:
    """A file of 3,000,000 samples whose header has another number of them; 0 stands for an unknown one."""
    content = bytearray(sound_file(np.arange(3_000_000, dtype=np.int16), form="FLAC"))
    content[21] = content[21] & 0xF0 | samples >> 32
    content[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize("samples", [3_000_001, 2**36 - 1])
def test_memory_is_not_taken_by_what_a_header_says(samples: int) -> None:
    with pytest.raises(ValueError, match="the audio is truncated: the file is shorter than its header says"):
        decode(flac_that_says(samples))


def test_flac_that_was_written_into_a_pipe_is_decoded() -> None:
    np.testing.assert_array_equal(decode(flac_that_says(0))[0], decode(flac_that_says(3_000_000))[0])


def test_audio_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pretune_trainer.data.audio._MOST", 2 * RATE)
    assert len(decode(sound_file(np.zeros(2 * RATE)))[0]) == 2 * RATE
    with pytest.raises(ValueError, match=r"the audio has more than [\d,]+ samples; cut it into clips"):
        decode(sound_file(np.zeros(2 * RATE + 1)))


def test_files_have_what_is_said_in_a_text_beside_them(tmp_path: Path) -> None:
    chosen = spoken(12)
    folder = tmp_path / "speech" / "anna"
    folder.mkdir(parents=True)
    for number, (content, said) in enumerate(chosen):
        (folder / f"{number:02d}.wav").write_bytes(content)
        (folder / f"{number:02d}.txt").write_text(said + "\n")
    config = listening(tmp_path, (tmp_path / "speech").as_uri(), data__validation=None)
    (source,) = gathered(config).cache.train
    found = {source.example(index)["said"].tobytes().decode() for index in range(len(source))}
    assert found == {said for _, said in chosen}
    (folder / "07.txt").unlink()
    with pytest.raises(UserError, match=r"07\.wav row 1: there is no 07\.txt next to it"):
        gathered(config)


LONG = sound_file(np.zeros(4 * RATE))
SHORT = sound_file(np.zeros(RATE // 50 * 8))
BAD: dict[str, tuple[bytes, str, str]] = {
    "text": (b"no audio", "a", "the audio cannot be decoded; supported formats are WAV, FLAC, MP3 and Ogg"),
    "empty": (sound_file(np.zeros(0)), "a", "the audio is empty"),
    "cut off": (spoken(1)[0][0][:-100], "a", "the audio is truncated: the file is shorter than its header says"),
    "no number": (
        sound_file(np.full(RATE, np.nan), subtype="FLOAT"),
        "a",
        "the audio has samples that are NaN or infinite",
    ),
    "long": (LONG, "a", "the clip has 4.00 seconds, at most 3 are allowed; shorten it, or drop it with"),
    "silent": (spoken(1)[0][0], " ", "column 'text' holds ' ', expected the transcript"),
    "strange": (spoken(1)[0][0], "ÄÖ", "holds 'ÄÖ', none of which the tokenizer knows; does it have capitals only?"),
    "blanks": (
        SHORT,
        "aabbccd",
        "too few for 7 letters: 10 are needed, including a blank between repeated letters",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_clip_that_cannot_be_learnt_from_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    content, said, says = BAD[name]
    good = write_clips(tmp_path / "good.parquet", spoken(40))
    bad = write_clips(tmp_path / "bad.parquet", [*spoken(1), (content, said)])
    sources = [{"uri": uri, "column": "audio"} for uri in (good, bad)]
    with pytest.raises(UserError) as caught:
        gathered(listening(tmp_path, good, data__train=sources[:1], data__validation={"sources": sources[1:]}))
    assert "bad.parquet row 2: " in str(caught.value)
    assert says in str(caught.value)


def test_no_loss_is_infinite_where_letters_just_fit(tmp_path: Path) -> None:
    task = gathered(listening(tmp_path, clips(tmp_path))).task
    assert isinstance(task, SpeechCtc)
    for letters in ("abcabca", "aabbc", "abcdefgh"):
        row, frames = task.tokenizer(letters)["input_ids"], len(letters) + sum(map(str.__eq__, letters, letters[1:]))
        for count in (frames - 1, frames):
            log_p = torch.full((1, count, len(task.tokenizer)), 1.0).log_softmax(-1)
            targets = {
                "letters": torch.tensor([row]),
                "frames": torch.tensor([count]),
                "length": torch.tensor([len(row)]),
            }
            loss = task._losses(log_p, Batch({}, targets, {}))
            assert bool(loss.isfinite()) == (count == frames)


def test_a_transcript_of_more_tokens_than_the_model_has_positions_is_refused(tmp_path: Path) -> None:
    long = [(spoken(1, rate=16_000)[0][0], " ".join("abcdefgh" * 4))]
    uri = write_clips(tmp_path / "bad.parquet", [*spoken(30, rate=16_000), *long])
    with pytest.raises(UserError, match=r"bad\.parquet row 31: the transcript has \d+ tokens, but the model has 24"):
        gathered(listening(tmp_path, uri, "whisper"))


@pytest.mark.parametrize(("kind", "shape"), [("wav2vec2", {}), ("hubert", CLIP_BY_CLIP), ("whisper", {})])
def test_two_ranks_learn_what_one_learns(tmp_path: Path, kind: str, shape: dict[str, Any]) -> None:
    odd: dict[str, Any] = {"training__max_steps": 3, "training__examples_per_step": 15}
    config = listening(tmp_path, clips(tmp_path, kind), kind, model__architecture=changed(kind, **shape), **odd)
    whole, steps = run(Ranks(), config)
    (half, others), *_ = in_ranks(2, run, named(config, "other"))
    for one, other in zip(steps, others, strict=True):
        assert one.tokens_total == other.tokens_total
        assert one.loss == pytest.approx(other.loss, abs=1e-5)
    assert half.metrics == pytest.approx(whole.metrics, abs=1e-4)
    for name, weight in weights_of(whole).items():
        torch.testing.assert_close(weights_of(half)[name], weight, atol=1e-4, rtol=0)


def test_stopped_and_gone_on_training_ends_with_the_same_bits_though_parts_are_hidden(tmp_path: Path) -> None:
    hiding = changed("wav2vec2", mask_time_prob=0.3, mask_time_length=3)
    config = listening(tmp_path, clips(tmp_path), model__architecture=hiding, checkpoint__every_steps=2)
    whole, _ = run(Ranks(), named(config, "whole"))
    plain, _ = run(Ranks(), named(listening(tmp_path, clips(tmp_path)), "plain"))
    run_until(Ranks(), config, 2)
    again, (last,) = run(Ranks(), config)
    assert last.step == 4
    assert_same_bits(again, whole)
    assert not torch.equal(weights_of(whole)["lm_head.bias"], weights_of(plain)["lm_head.bias"])


@pytest.mark.parametrize("kind", sorted(CTC_FAMILIES))
@pytest.mark.parametrize("norm", ["layer", "group"])
def test_a_loss_does_not_depend_on_the_neighbours_of_a_clip(tmp_path: Path, kind: str, norm: str) -> None:
    architecture = changed(kind, feat_extract_norm=norm, do_stable_layer_norm=norm == "layer")
    inputs = gathered(listening(tmp_path, clips(tmp_path), kind, model__architecture=architecture))
    model, packs = inputs.make_model().model.eval(), packs_of(inputs)
    with torch.no_grad():
        whole = inputs.task.loss(model, inputs.task.batch(packs))["ctc"]
        parts = sum(inputs.task.loss(model, inputs.task.batch([pack]))["ctc"] for pack in packs)
    assert whole.item() == pytest.approx(float(parts), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_a_clip_teaches_nothing(tmp_path: Path, kind: str) -> None:
    inputs = gathered(listening(tmp_path, clips(tmp_path, kind), kind))
    model, batch = inputs.make_model().model, inputs.task.batch([Pack(), Pack()])
    assert set(batch.counts.values()) == {0}
    (loss,) = inputs.task.loss(model, batch).values()
    assert loss.item() == 0.0
    assert inputs.task.evaluate(model.eval(), batch) == []


def test_whisper_listens_once_though_it_writes_timestamps_that_nobody_asked_for(tmp_path: Path) -> None:
    inputs = gathered(listening(tmp_path, clips(tmp_path, "whisper"), "whisper"))
    model = inputs.make_model().model.eval()
    model.generation_config.no_timestamps_token_id = 200
    later = torch.zeros(model.config.vocab_size).index_fill(0, torch.tensor([221]), 1.0)
    model.proj_out.register_forward_hook(lambda module, args, logits: later.expand_as(logits))
    heard: list[int] = []
    model.model.encoder.register_forward_pre_hook(lambda module, args: heard.append(1))
    with torch.no_grad():
        inputs.task.evaluate(model, inputs.task.batch(packs_of(inputs)))
    assert len(heard) == 2, "once for the loss, and once to write"


def test_letters_are_those_of_the_transcripts_and_an_accent_goes_on_from_them(tmp_path: Path) -> None:
    parent, _ = run(Ranks(), listening(tmp_path, clips(tmp_path), training__max_steps=2))
    letters = AutoTokenizer.from_pretrained(path_of(parent))
    assert sorted(letters.get_vocab(), key=letters.get_vocab().get)[5:] == list("abcdefgh")
    assert (letters.pad_token, letters.pad_token_id) == ("<pad>", 0)
    folder = as_parent(parent)
    uri = write_clips(tmp_path / "accent.parquet", spoken(30, seed=9))
    child, _ = run(Ranks(), listening(tmp_path / "child", uri, parent=folder, training__learning_rate=1e-9))
    before, after = weights_of(parent), weights_of(child)
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight, atol=1e-5, rtol=0)
    content, rate = soundfile.read(io.BytesIO(spoken(1)[0][0]))
    assert "text" in pipeline("automatic-speech-recognition", model=str(path_of(child)))(
        {"raw": content, "sampling_rate": rate}
    )


@pytest.mark.parametrize(
    ("kind", "other", "frames"),
    [
        ("wav2vec2", {"hidden_size": 48, "num_hidden_layers": 2, "conv_dim": [8, 8, 8]}, {"conv_stride": [10, 4, 2]}),
        ("whisper", {"encoder_layers": 2}, {"max_source_positions": 150}),
        ("whisper", {"d_model": 48}, {"max_target_positions": 30}),
    ],
)
def test_audio_is_decoded_again_only_where_other_clips_would_fit(
    tmp_path: Path, kind: str, other: dict[str, Any], frames: dict[str, Any]
) -> None:
    def name(**config: Any) -> str:
        job = listening(tmp_path, uri, kind, model__architecture=changed(kind, **config))
        return gathered(job).task.fingerprint

    uri = clips(tmp_path, kind)
    assert name() == name(**other) != name(**frames)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a reader": (
        {"model__architecture": {"type": "bert", "config": {}}},
        r"spec\.model\.architecture: bert models do not take audio; use one of hubert, wav2vec2, wavlm, whisper",
    ),
    "words": (
        {"tokenizer": {"train": {"algorithm": "unigram"}}},
        r"spec\.tokenizer\.train\.algorithm: speech recognition needs character \(CTC\) or bpe \(Whisper\)",
    ),
    "pieces": (
        {"tokenizer": {"train": {"vocabSize": 270}}},
        r"spec\.tokenizer: CTC needs tokens for letters; train one",
    ),
    "a language": ({"task__speech_recognition__language": "en"}, r"language: CTC does not use a language; remove it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_listen_or_spell_is_refused(tmp_path: Path, name: str) -> None:
    changes, says = REFUSED[name]
    with pytest.raises(UserError, match=says):
        gathered(listening(tmp_path, clips(tmp_path), **changes))


def test_a_window_of_part_of_a_second_is_refused(tmp_path: Path) -> None:
    architecture = changed("whisper", max_source_positions=120)
    says = r"max_source_positions: must be a multiple of Whisper's 50 positions per second, not 120"
    with pytest.raises(UserError, match=says):
        gathered(listening(tmp_path, clips(tmp_path), "whisper", model__architecture=architecture))


def test_only_transcripts_are_spelled(tmp_path: Path) -> None:
    text = classification(tmp_path, tokenizer={"train": {"algorithm": "character"}})
    with pytest.raises(UserError, match=r"algorithm: character is for speechRecognition only; use bpe, unigram or"):
        gathered(text)


def test_cleaning_drops_what_cannot_be_heard_and_says_so(tmp_path: Path) -> None:
    loud = np.clip(3 * np.sin(np.arange(RATE) / 9), -1, 1)
    bad = [
        (b"no audio", "abc"),
        (sound_file(np.zeros(0)), "abc"),
        (sound_file(np.full(RATE, 1e-4)), "abc"),
        (sound_file(loud), "abc"),
        (sound_file(0.1 * loud[:99]), "abc"),
        (LONG, "abc"),
        (sound_file(0.1 * loud), " "),
        spoken(40)[3],
    ]
    uri = write_clips(tmp_path / "mixed.parquet", [*spoken(40), *bad])
    rules = {"minSeconds": 0.02, "maxSeconds": 3, "minLevel": -50, "maxClipped": 0.01}
    cleaning = {"audio": rules, "duplicates": "exact"}
    inputs = gathered(listening(tmp_path, uri, data__cleaning=cleaning))
    assert inputs.clean is not None
    reasons = ["undecodable", "empty", "silent", "clipped", "tooShort", "tooLong", "duplicate"]
    assert inputs.clean.report.dropped == dict.fromkeys(reasons, 1) | {"empty": 2}
    assert inputs.cache.documents == 40


def test_cleaning_that_compares_words_or_knows_no_audio_is_refused(tmp_path: Path) -> None:
    for cleaning, says in {
        "exact": "row 1: column 'audio' holds dict, but spec.data.cleaning reads text, or audio if it has audio",
        "near": "row 1: .+ has no words to compare; set spec.data.cleaning.duplicates to exact",
    }.items():
        with pytest.raises(UserError, match=says):
            gathered(listening(tmp_path, clips(tmp_path), data__cleaning={"duplicates": cleaning}))
