"""What sentence-transformers reads beside a model: which of its modules follow each other, and their settings."""

import json
from pathlib import Path
from typing import Final

from pretune_api.embedding import Embedding

_MODULES: Final = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
"""Folder of each module, in order."""
_POOLING: Final = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}


def save_settings(folder: Path, spec: Embedding, width: int, length: int) -> None:
    """Write them into the model's folder; its vectors have `width` dimensions, its texts `length` tokens at most."""
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (name, path) in enumerate(_MODULES.items())
    ]
    pooling = {f"pooling_mode_{name}": how == spec.pooling for how, name in _POOLING.items()}
    prompts = {"query": spec.query_prefix, "document": spec.document_prefix}
    _write(folder / "modules.json", modules)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False})
    _write(folder / _MODULES["Pooling"] / "config.json", {"word_embedding_dimension": width, **pooling})
    _write(folder / "config_sentence_transformers.json", {"prompts": prompts, "similarity_fn_name": "cosine"})


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
