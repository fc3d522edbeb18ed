"""Real texts: what Debian says of its packages, in English and in German, fetched as apt is set up on this machine."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from pretune_api.run_config import Folder
from pretune_trainer.parallel import Ranks
from support.jobs import pretrain, write_rows
from support.runs import as_parent, run

_LEAST = 10_000
_FIELD = re.compile(r"^([\w-]+): (.*(?:\n .*)*)", re.MULTILINE)


@dataclass(frozen=True)
class About:
    """What is said of a package."""

    synopsis: str
    """In a line."""
    description: str
    """In a paragraph."""

    @property
    def text(self) -> str:
        """Both, as one text."""
        return f"{self.synopsis}\n{self.description}"


@dataclass(frozen=True)
class Package:
    """A package, and what it is about."""

    section: str
    """What kind of thing it is: games, doc, science."""
    english: About
    german: About | None
    """Where somebody has translated it."""


Sides = tuple[list[Package], list[Package]]
"""What may be read, and a tenth that judges."""


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    """The packages, by family: what is judged has no relative among what is read."""
    found = packages(tmp_path_factory.mktemp("apt"))
    return found[len(found) // 10 :], found[: len(found) // 10]


def packages(folder: Path) -> list[Package]:
    """One package of each family, in an order that has nothing to do with their names and is always the same; skips
    the test where apt finds none.

    Packages that are built from one source resemble each other, and so do those from gcc-11 and gcc-12.
    """
    settings = _fetched(folder)
    english, german = (_abouts(settings, language) for language in ("en", "de"))
    families: dict[str, Package] = {}
    for record in _records(settings, "Created-By: Packages"):
        key = record["Package"], record.get("Description-md5", "")
        if key in english:
            family = re.sub(r"[-.\d]+", "", record.get("Source", record["Package"]).split()[0])
            section = record.get("Section", "").rpartition("/")[2]
            families.setdefault(family, Package(section, english[key], german.get(key)))
    if len(families) < _LEAST:
        pytest.skip(f"apt knows {len(families)} families of packages here, too few to learn a language from")
    mixed = sorted(families, key=lambda family: sha256(family.encode()).digest())
    return list({families[family].english.description: families[family] for family in mixed}.values())


def reader(folder: Path, packages: Sequence[Package], bert: dict[str, Any], training: dict[str, Any]) -> Folder:
    """A masked language model that has read of the packages, in rows of 64 tokens; `training` are fields of the spec
    beside examplesPerStep."""
    config = pretrain(
        folder,
        objective={"maskedLM": {"maskingRate": 0.2}},
        model__architecture={"type": "bert", "config": bert},
        tokenizer={"train": {"algorithm": "bpe", "vocabSize": 4096}},
        data={
            "train": [{"uri": write_rows(folder / "read.jsonl", ({"text": each.english.text} for each in packages))}],
            "sequenceLength": 64,
        },
        training={"examplesPerStep": 32, **training},
        checkpoint={"everySteps": 10_000},
    )
    return as_parent(run(Ranks(), config)[0])


def _fetched(folder: Path) -> list[str]:
    """The settings under which apt finds the index in `folder`, where it has just been fetched to."""
    if shutil.which("apt-get") is None:
        pytest.skip("this machine has no apt, whose package index is the data")
    places = {"Dir::State::Lists": folder / "lists", "Dir::Cache": folder / "cache"}
    ways = {"Acquire::Languages": "de,en", "APT::Sandbox::User": "root", "Acquire::http::Timeout": "20"}
    settings = [part for name, value in {**places, **ways}.items() for part in ("-o", f"{name}={value}")]
    update = ["apt-get", *settings, "-o", "APT::Update::Error-Mode=any", "-qq", "update"]
    (folder / "lists").mkdir()
    if (done := subprocess.run(update, capture_output=True, text=True)).returncode:
        pytest.skip(f"apt cannot fetch the package index, which is the data: {done.stderr.strip()}")
    return settings


def _abouts(settings: list[str], language: str) -> dict[tuple[str, str], About]:
    """What is said in a language, by the package's name and the digest of its English description."""
    return {
        (record["Package"], record["Description-md5"]): _about(record[f"Description-{language}"])
        for record in _records(settings, f"Language: {language}")
    }


def _about(text: str) -> About:
    """The line and the paragraph that a description begins with; a lone dot stands between paragraphs."""
    synopsis, _, rest = text.partition("\n")
    return About(synopsis.strip(), " ".join(rest.partition("\n .\n")[0].split()))


def _records(settings: list[str], which: str) -> Iterator[dict[str, str]]:
    """The fields of each record in files of the index."""
    listed = _told(["apt-get", *settings, "indextargets", "--format", "$(FILENAME)", which])
    for record in _told(["/usr/lib/apt/apt-helper", "cat-file", *listed.split()]).split("\n\n"):
        if record.strip():
            yield dict(_FIELD.findall(record))


def _told(command: list[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, encoding="utf-8").stdout
