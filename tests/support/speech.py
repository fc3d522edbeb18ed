"""Speech that can be made anywhere: a tone for each character, so that what is said is known to the letter."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from numpy.typing import NDArray

from pretune_api.run_config import Folder, RunConfig
from support.jobs import run_config

RATE = 8_000
LETTERS = "abcdefgh"
ARCHITECTURES: dict[str, dict[str, Any]] = {
    kind: {
        "type": kind,
        "config": {
            "conv_dim": [32, 32, 32],
            "conv_kernel": [20, 8, 4],
            "conv_stride": [10, 4, 4],
            "num_feat_extract_layers": 3,
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "num_conv_pos_embeddings": 8,
            "num_conv_pos_embedding_groups": 2,
            "mask_time_prob": 0.0,
            **dict.fromkeys(["hidden_dropout", "activation_dropout", "attention_dropout", "final_dropout"], 0.0),
        },
    }
    for kind in ("wav2vec2", "hubert", "wavlm")
} | {
    "whisper": {
        "type": "whisper",
        "config": {
            "num_mel_bins": 20,
            "d_model": 32,
            "max_source_positions": 100,
            "max_target_positions": 24,
            **{f"{side}_layers": 1 for side in ("encoder", "decoder")},
            **{f"{side}_attention_heads": 2 for side in ("encoder", "decoder")},
            **{f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")},
        },
    }
}


def tones(said: str, random: np.random.Generator, rate: int = RATE, seconds: float = 0.08) -> NDArray[np.float32]:
    """A tone for each letter, nothing for a space; float32 [samples], loudness, pitch and pace of each clip its own."""
    pace, pitch, loudness = random.uniform([0.9, 0.97, 0.1], [1.2, 1.03, 0.5])
    time = np.arange(int(seconds * pace * rate)) / rate
    shape = np.hanning(len(time))
    tones = {letter: shape * np.sin(2 * np.pi * pitch * (300 + 140 * n) * time) for n, letter in enumerate(LETTERS)}
    heard = np.concatenate([tones.get(letter, 0 * time) for letter in said])
    clip: NDArray[np.float32] = (loudness * (heard + random.normal(0, 0.01, len(heard)))).astype(np.float32)
    return clip


def sentences(random: np.random.Generator, count: int, words: int = 60, most: int = 3) -> list[str]:
    """One to `most` of so many words of one to four letters, letters that come twice in a row among them."""
    chosen = np.random.default_rng(3)
    known = ["".join(chosen.choice(list(LETTERS), chosen.integers(1, 5))) for _ in range(words)]
    return [" ".join(random.choice(known, random.integers(1, most + 1))) for _ in range(count)]


def sound_file(wave: np.ndarray, rate: int = RATE, form: str = "WAV", subtype: str | None = None) -> bytes:
    """A file with the wave, float [samples] or [samples, channels]."""
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=form, subtype=subtype)
    return file.getvalue()


def spoken(count: int, seed: int = 1, rate: int = RATE, **how: Any) -> list[tuple[bytes, str]]:
    """Clips with what is said in them."""
    random = np.random.default_rng(seed)
    return [(sound_file(tones(said, random, rate), rate), said) for said in sentences(random, count, **how)]


def write_clips(path: Path, clips: Iterable[tuple[bytes, str]], columns: Mapping[str, list[str]] | None = None) -> str:
    """Parquet as Hugging Face datasets write it; its URI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"audio": {"bytes": content, "path": "clip.wav"}, "text": said} for content, said in clips]
    table = pa.Table.from_pylist(rows)
    for name, values in (columns or {}).items():
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, path)
    return path.as_uri()


def listening(
    folder: Path,
    uri: str,
    kind: str = "wav2vec2",
    spec: dict[str, Any] | None = None,
    parent: Folder | None = None,
    **changes: Any,
) -> RunConfig:
    """The run config of a job on the clips at `uri`."""
    whisper = kind == "whisper"
    document: dict[str, Any] = {
        "task": {"speechRecognition": {"maxSeconds": 3} | (spec or {})},
        "model": {"from": {"uri": parent.uri}} if parent else {"architecture": ARCHITECTURES[kind]},
        "data": {"train": [{"uri": uri, "column": "audio"}], "validation": {"fraction": 0.2}},
        "training": {"examplesPerStep": 16, "maxSteps": 4, "learningRate": 0.003, "precision": "fp32", "seed": 1},
        "storage": {"uri": (folder / "storage").as_uri()},
        "compute": {"gpusPerWorker": 0},
    }
    if parent is None:
        document["task"]["speechRecognition"] |= {} if whisper else {"samplingRate": RATE}
        training = {"algorithm": "bpe", "vocabSize": 270} if whisper else {"algorithm": "character"}
        document["tokenizer"] = {"train": training}
    return run_config("FinetuneJob", "speech", document, changes)
