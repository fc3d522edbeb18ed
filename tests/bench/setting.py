"""What every side of a comparison is given: the same model, text, tokenizer and sizes."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "examples/demo/data/general/modules.parquet"
"""Modules of Python's standard library: one document each, in column text."""
HOME = ROOT / ".bench"
CORPUS = HOME / "data/corpus"
"""SOURCE in SHARDS files, so that whoever can read in parallel may."""
SHARDS = 4
LOG = HOME / "log.txt"
"""What the measured programs say."""
TOKENIZER = HOME / "data/tokenizer"
ROWS_FILE = HOME / "data/rows.npy"
"""The corpus as nanoGPT would lay it: documents joined by the end token, cut into rows; int32 [rows, LENGTH]."""
CHATS = HOME / "data/chats.jsonl"
"""Conversations about real functions: {"messages": [{role, content}, ...]}."""

MODEL: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
"""Fields of a LlamaConfig: 1.4 million parameters with VOCABULARY."""
VOCABULARY = 4096
LENGTH = 256
"""Tokens in a row of pretraining."""
CHAT_LENGTH = 512
"""Tokens of the longest conversation, and in a packed row of them."""
ROWS = 8
"""Rows of a step of pretraining."""
CHATS_PER_STEP = 16
"""Conversations of a step of fine-tuning, where they are padded."""
CHAT_ROWS = 5
"""Rows of a step of fine-tuning, where they are packed: about as many tokens."""
LEARNING_RATE = 1e-3
STEPS_PER_PASS = 1_000
"""Steps of data that are a turn of a data path: about the whole corpus."""
STEPS = 10_000
"""Length of the schedule; more than anyone runs."""
END = "<|endoftext|>"
END_ID = 0
"""The first of the special tokens."""
TEMPLATE = """{% for message in messages %}<|{{ message.role }}|>
{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|endoftext|>{% endgeneration %}
{% else %}{{ message.content }}
{% endif %}{% endfor %}"""


def prepare() -> None:
    """Make tokenizer, rows and conversations, unless they are there."""
    if CHATS.exists():
        return
    source = pq.read_table(SOURCE)
    texts = source.column("text").to_pylist()
    _write_shards(source)
    tokenizer = _train_tokenizer(texts)
    _write_rows(tokenizer, texts)
    _write_chats(tokenizer, texts)


def _write_shards(source: pa.Table) -> None:
    CORPUS.mkdir(parents=True, exist_ok=True)
    for shard in range(SHARDS):
        pq.write_table(source.take(np.arange(shard, len(source), SHARDS)), CORPUS / f"{shard}.parquet")


def _train_tokenizer(texts: list[str]) -> "PreTrainedTokenizerFast":
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet)
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=END, eos_token=END, pad_token=END)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(TOKENIZER)
    return tokenizer


def _write_rows(tokenizer: "PreTrainedTokenizerFast", texts: list[str]) -> None:
    documents = tokenizer(texts)["input_ids"]
    stream = np.concatenate([np.array([*ids, tokenizer.eos_token_id], dtype=np.int32) for ids in documents])
    rows = stream[: len(stream) // LENGTH * LENGTH].reshape(-1, LENGTH)
    np.save(ROWS_FILE, np.random.default_rng(0).permutation(rows))


def _write_chats(tokenizer: "PreTrainedTokenizerFast", texts: list[str]) -> None:
    chats = [chat for text in texts for chat in _conversations(text)]
    lengths = [len(ids) for ids in tokenizer.apply_chat_template(chats, return_dict=False)]
    with CHATS.open("w") as file:
        for place in np.random.default_rng(0).permutation(len(chats)):
            if lengths[place] <= CHAT_LENGTH:
                file.write(json.dumps({"messages": chats[place]}) + "\n")


def _conversations(module: str) -> Iterator[list[dict[str, str]]]:
    """What each documented function does, and its docstring for an answer: lengths as real text has them."""
    for node in ast.walk(ast.parse(module)):
        if isinstance(node, ast.FunctionDef) and (docstring := ast.get_docstring(node)):
            node.body = node.body[1:] or [ast.Pass()]
            yield [
                {"role": "user", "content": f"What does this function do?\n{ast.unparse(node)}"},
                {"role": "assistant", "content": docstring},
            ]


def places(rows: np.ndarray) -> np.ndarray:
    """The place of each token in its document, int64 [rows, LENGTH]: a document starts behind the end of another."""
    place = np.arange(rows.shape[1])
    starts = np.zeros_like(rows)
    starts[:, 1:] = np.where(rows[:, :-1] == END_ID, place[1:], 0)
    return place - np.maximum.accumulate(starts, axis=1)


def batches(rows: int) -> Iterator[np.ndarray]:
    """Endless batches of packed rows, int64 [rows, LENGTH]."""
    table = np.load(ROWS_FILE)
    while True:
        for start in range(0, len(table) - rows, rows):
            yield table[start : start + rows].astype(np.int64)
