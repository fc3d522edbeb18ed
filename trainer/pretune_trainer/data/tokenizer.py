"""The job's own tokenizer: trained on its documents, or adapted to them, once, and kept by content."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pretune_api.manifest import COMMITTED_NAME, Manifest
from pretune_api.model import TokenizerAdaptation, TokenizerTraining
from pretune_trainer.data.adapt import adapt
from pretune_trainer.data.corpus import Corpus
from pretune_trainer.data.inputs import digest_of
from pretune_trainer.data.shelf import Shelf
from pretune_trainer.data.vocabulary import Form, train
from pretune_trainer.errors import StopRequestedError
from pretune_trainer.storage.commit import commit_first, read_commit
from pretune_trainer.storage.store import Store

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from pretune_trainer.parallel import Ranks

VERSION: Final = 1
"""Of how tokenizers are trained here."""
_KNOWN: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "bpe.codes",
    "byte_maps.json",
    "merges.txt",
    "prophetnet.tokenizer",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "source.spm",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "spm_char.model",
    "target.spm",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
)
"""What tokens can depend on; chat templates are named by the tasks that use them."""


def trained_tokenizer(
    training: TokenizerTraining,
    corpus: Corpus,
    storage: Store,
    ranks: "Ranks",
    stop: Callable[[], bool],
    form: Form = Form.BARE,
) -> Path:
    """The folder, on this node, of a tokenizer trained on `corpus`; it is trained if nobody has yet. Collective.

    Rank 0 trains and commits it, the others read it: WordPiece and Unigram give other ids each time they are trained.

    Raises:
        UserError: a source is empty or damaged, or the vocabulary does not fit the data.
        StopRequestedError: asked to stop.
    """

    def make(folder: Path) -> None:
        texts = _until(stop, corpus.sample(training.sample_documents))
        train(training, texts, length, form).save_pretrained(folder)

    length = corpus.data.sequence_length
    key = [VERSION, version("tokenizers"), training.model_dump(mode="json"), length, form]
    return _opened(ranks.once(lambda: _committed(key, make, corpus, storage)), storage)


def adapted_tokenizer(
    adaptation: TokenizerAdaptation,
    parent: "PreTrainedTokenizerBase",
    parent_digest: str,
    corpus: Corpus,
    storage: Store,
    ranks: "Ranks",
    stop: Callable[[], bool],
) -> Path:
    """The folder, on this node, of the tokenizer `parent` with tokens added that `corpus` has often; made if nobody has
    yet. Collective.

    Raises:
        UserError: as of `trained_tokenizer`, or the tokenizer is of a kind that cannot be extended.
        StopRequestedError: asked to stop.
    """

    def make(folder: Path) -> None:
        texts = _until(stop, corpus.sample(adaptation.sample_documents))
        adapt(parent, texts, adaptation.tokens, folder)

    key = ["adapted", VERSION, adaptation.tokens, adaptation.sample_documents, parent_digest]
    return _opened(ranks.once(lambda: _committed(key, make, corpus, storage)), storage)


def _opened(digest: str, storage: Store) -> Path:
    store = storage.child(f"cache/{digest}")
    manifest = read_commit(store)
    shelf = Shelf(store, manifest)
    first, *_ = [shelf.path(file.path) for file in manifest.files]
    return first.parent


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 over the tokenizer's files in a folder in Hugging Face format, in hex: what its tokens depend on."""
    digest = hashlib.sha256()
    for name in _KNOWN:
        if (folder / name).is_file():
            content = (folder / name).read_bytes()
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def save_tokenizer(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write a tokenizer's files, the same whatever it was used for: a fast one would tell how it last cut texts."""
    from transformers import PreTrainedTokenizerFast

    if isinstance(tokenizer, PreTrainedTokenizerFast):
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)


def _committed(key: Sequence[object], make: Callable[[Path], None], corpus: Corpus, storage: Store) -> str:
    """The name of the tokenizer's cache folder, which is committed; `make` writes it, `key` names how."""
    digest = digest_of("tokenizer", key, *corpus.key)
    store = storage.child(f"cache/{digest}")
    if not store.exists(COMMITTED_NAME):
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder))
            # Jobs that train the same at once get other ids: none may write over what another has made.
            own, paths = tokenizer_digest(Path(folder)), sorted(Path(folder).iterdir())
            made = [store.put(f"{own}/{path.name}", path) for path in paths if path.is_file()]
        commit_first(store, Manifest(content="cache", files=made))
    return digest


def _until(stop: Callable[[], bool], texts: Iterator[str]) -> Iterator[str]:
    for text in texts:
        if stop():
            raise StopRequestedError("stopped as requested while the tokenizer was trained; the next run starts over")
        yield text
