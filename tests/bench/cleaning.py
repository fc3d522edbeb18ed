"""What cleaning costs beside tokenising: `python tests/bench/cleaning.py`, on one thread, with no GPU.

The corpus is the source of Python's standard library, modules and their parts: real text, with real copies.
Seconds are of CPU time, so that a busy machine does not count.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

from pretune_api.data import Data
from pretune_api.model import TokenizerTraining
from pretune_api.objectives import CausalLM
from pretune_api.storage import Location
from pretune_trainer.data.cleaning.clean import cleaned
from pretune_trainer.data.corpus import Corpus
from pretune_trainer.data.token_cache import token_cache
from pretune_trainer.data.tokenise import Tokenisation
from pretune_trainer.data.tokenizer import trained_tokenizer
from pretune_trainer.parallel import Ranks
from pretune_trainer.storage.store import Store
from pretune_trainer.tasks import TASKS, Context

RULES: dict[str, dict[str, Any]] = {
    "length and characters": {"length": {"minWords": 5}, "characters": {"maxDigits": 0.5}},
    "gopherQuality": {"filters": ["gopherQuality"]},
    "gopherRepetition": {"filters": ["gopherRepetition"]},
    "c4": {"filters": ["c4"]},
    "masking": {"mask": ["emailAddress", "ipAddress", "phoneNumber"]},
    "exact duplicates": {"duplicates": "exact"},
    "near duplicates": {"duplicates": "near"},
    "all that keeps code": {
        "length": {"minWords": 5},
        "characters": {"maxDigits": 0.5},
        "filters": ["gopherRepetition"],
        "mask": ["emailAddress", "ipAddress", "phoneNumber"],
        "duplicates": "near",
    },
}


def corpus(folder: Path) -> tuple[Data, int, int]:
    """Documents of the standard library as JSON lines; how many, and their bytes."""
    modules = [path.read_text(errors="replace") for path in sorted(Path(os.__file__).parent.glob("*.py"))]
    texts = [text for module in modules for text in [module, *module.split("\n\n\n")]]
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    data = {"train": [{"uri": path.as_uri()}], "sequenceLength": 1024}
    return Data.model_validate(data), len(texts), sum(len(text.encode()) for text in texts)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        data, documents, size = corpus(Path(name))
        store = Store.open(Location(uri=Path(name, "storage").as_uri()))
        print(f"{documents:,} documents, {size / 1e6:.1f} MB, one thread")

        def timed(what: str, do: Callable[[], object]) -> None:
            start = time.process_time()
            do()
            seconds = time.process_time() - start
            print(f"{what:24}{seconds:7.2f} s {documents / seconds:9,.0f} documents/s {size / 1e6 / seconds:6.1f} MB/s")

        task = _task(data, store)
        timed("tokenising alone", lambda: token_cache(Tokenisation(data, task, "t"), store, Ranks(), _never))
        for rules_name, rules in RULES.items():
            dirty = Data.model_validate(data.model_dump() | {"cleaning": rules})
            timed(rules_name, partial(cleaned, dirty, (), store, Ranks(), _never))
        found = cleaned(dirty, (), store, Ranks(), _never)
        assert found is not None
        left = Tokenisation(dirty, task, "t", clean=found)
        timed("tokenising what is left", lambda: token_cache(left, store, Ranks(), _never))
        print(found.report.sentence())


def _task(data: Data, store: Store) -> Any:
    from transformers import AutoTokenizer

    folder = trained_tokenizer(TokenizerTraining(vocab_size=8192), Corpus(data), store, Ranks(), _never)
    return TASKS["causalLM"](Context(CausalLM(), AutoTokenizer.from_pretrained(folder), 1024, True, False, 0))


def _never() -> bool:
    return False


if __name__ == "__main__":
    main()
