"""The job's own tokenizer: trained on its documents, or adapted to them, once, and kept by content."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from itertools import chain, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pretune_api.data import Data
from pretune_api.manifest import COMMITTED_NAME, Manifest
from pretune_api.model import TokenizerAdaptation, TokenizerTraining
from pretune_trainer.data.adapt import adapt
from pretune_trainer.data.cleaning.clean import Cleaned
from pretune_trainer.data.cleaning.text import text_in
from pretune_trainer.data.example import Row
from pretune_trainer.data.holdout import HINT
from pretune_trainer.data.inputs import DataSource, data_sources, digest_of, fingerprint
from pretune_trainer.data.readers import Unit, rows, units
from pretune_trainer.data.shelf import Shelf
from pretune_trainer.data.sources import OpenSource, SourceFile
from pretune_trainer.data.vocabulary import Form, train
from pretune_trainer.errors import StopRequestedError, UserError
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
    data: Data,
    storage: Store,
    ranks: "Ranks",
    stop: Callable[[], bool],
    form: Form = Form.BARE,
    columns: Sequence[str] = (),
    clean: Cleaned | None = None,
) -> Path:
    """The folder, on this node, of a tokenizer trained on `data`; it is trained if nobody has yet. Collective.

    Text in `columns` is learnt from beside that in the sources' own column, and only from documents that `clean`, if
    there is one, leaves. Rank 0 trains and commits it, the others read it: WordPiece and Unigram give other ids each
    time they are trained.

    Raises:
        UserError: a source is empty or damaged, or the vocabulary does not fit the data.
        StopRequestedError: asked to stop.
    """

    def make(folder: Path) -> None:
        texts = _until(stop, sample(data, training.sample_documents, columns, clean))
        train(training, texts, data.sequence_length, form).save_pretrained(folder)

    key = [VERSION, version("tokenizers"), training.model_dump(mode="json"), data.sequence_length, form]
    return _opened(ranks.once(lambda: _committed(key, make, data, storage, columns, clean)), storage)


def adapted_tokenizer(
    adaptation: TokenizerAdaptation,
    parent: "PreTrainedTokenizerBase",
    parent_digest: str,
    data: Data,
    storage: Store,
    ranks: "Ranks",
    stop: Callable[[], bool],
    columns: Sequence[str] = (),
    clean: Cleaned | None = None,
) -> Path:
    """The folder, on this node, of the tokenizer `parent` with tokens added that `data` has often; made if nobody has
    yet. Collective.

    Raises:
        UserError: as of `trained_tokenizer`, or the tokenizer is of a kind that cannot be extended.
        StopRequestedError: asked to stop.
    """

    def make(folder: Path) -> None:
        adapt(
            parent, _until(stop, sample(data, adaptation.sample_documents, columns, clean)), adaptation.tokens, folder
        )

    key = ["adapted", VERSION, adaptation.tokens, adaptation.sample_documents, parent_digest]
    return _opened(ranks.once(lambda: _committed(key, make, data, storage, columns, clean)), storage)


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


def sample(data: Data, documents: int, columns: Sequence[str] = (), clean: Cleaned | None = None) -> Iterator[str]:
    """The texts of at most that many training documents, as evenly from the sources, and from their files, as these
    allow.

    Raises:
        UserError: a source has none, or is damaged; or all documents are held out.
    """
    sources = _training_sources(data)
    files = [source.opened.files() for source in sources]
    smallest_first = sorted(range(len(sources)), key=lambda number: sum(file.size for file in files[number]))
    total = 0
    for done, number in enumerate(smallest_first):
        share = documents // (len(sources) - done)
        taken = blank = 0
        for text in _sample_source(sources[number], number, files[number], columns, share, clean):
            yield text
            taken += 1
            blank += not text or text.isspace()
        if taken == blank:
            opened = sources[number].opened
            lacks = "has no text to learn from, only blanks" if taken else _lacks(opened, number, files[number])
            if lacks is not None:
                raise UserError(f"{opened.where}.uri", f"{opened.source.uri} {lacks}")
        documents -= taken
        total += taken
    if not total:
        said = f"all documents are held out, none is left to learn from; lower it, or add data ({HINT})"
        raise UserError("spec.data.validation.fraction", said)


def _lacks(opened: OpenSource, number: int, files: Sequence[SourceFile]) -> str | None:
    """Why a source gives no text at all; None where all that it has is held out."""
    lacks = "is empty: it has no documents to learn from"
    for row in chain.from_iterable(rows(opened, unit) for unit in units(opened, number, files)):
        if row.value(row.column) is not None:
            return None
        lacks = "has no documents to learn from: all are null"
    return lacks


def _training_sources(data: Data) -> list[DataSource]:
    return [source for source in data_sources(data) if source.holdout.fraction < 1.0]


def _committed(
    key: Sequence[object],
    make: Callable[[Path], None],
    data: Data,
    storage: Store,
    columns: Sequence[str],
    clean: Cleaned | None,
) -> str:
    """The name of the tokenizer's cache folder, which is committed; `make` writes it, `key` names how."""
    sources = _training_sources(data)
    files = [source.opened.files() for source in sources]
    read = [fingerprint(sources, files), *([clean.digest] if clean else [])]
    digest = digest_of("tokenizer", key, list(columns), *read)
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


def _sample_source(
    source: DataSource,
    number: int,
    files: Sequence[SourceFile],
    columns: Sequence[str],
    documents: int,
    clean: Cleaned | None,
) -> Iterator[str]:
    smallest_first = sorted(units(source.opened, number, files), key=lambda unit: unit.size)
    left = sum(len(unit.files) for unit in smallest_first)
    for unit in smallest_first:
        if not documents:
            return
        for row in _spread(_training_rows(source, unit, columns, clean), len(unit.files), documents, left):
            yield document_of(row, columns)
            documents -= 1
        left -= len(unit.files)


def _spread(found: Iterator[Row], files: int, documents: int, left: int) -> Iterator[Row]:
    """Rows of a unit of so many files, as evenly from these as they allow; `documents` are wanted of `left` files."""
    for done, (_, of_file) in enumerate(groupby(found, key=lambda row: row.place.uri), start=1):
        for row in islice(of_file, -(-documents // (left - done + 1))):
            yield row
            documents -= 1
        if done == files or not documents:
            return  # what is left of a large file is not read


def _training_rows(source: DataSource, unit: Unit, columns: Sequence[str], clean: Cleaned | None) -> Iterator[Row]:
    found = rows(source.opened, unit, columns)
    for row in clean.rows(source, unit, found) if clean else found:
        if row.value(row.column) is not None and not source.holdout(row):
            yield row


def document_of(row: Row, columns: Sequence[str]) -> str:
    """The text of a row; that of other columns stands below it, or alone where its own has none, as images have."""
    value = row.value(row.column)
    others = [text_in(row.value(column)) for column in columns]
    if others and not isinstance(value, str | list):
        return "\n".join(others)
    return "\n".join([text_in(value) if isinstance(value, list) else row.text(), *others])
