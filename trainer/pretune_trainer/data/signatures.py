"""What a file is that should be text, by how it begins."""

from typing import Final

_SIGNATURES: Final = {
    b"\x1f\x8b": "it is compressed with gzip; unpack it, or rename it to end in .gz",
    b"\x28\xb5\x2f\xfd": "it is compressed with zstd; unpack it, or rename it to end in .zst",
    b"\xfd7zXZ": "it is compressed with xz; unpack it, or compress it with gzip or zstd",
    b"BZh": "it is compressed with bzip2; unpack it, or compress it with gzip or zstd",
    b"PK\x03\x04": "it is a ZIP archive; unpack it",
    b"PAR1": "it is Parquet; rename it to end in .parquet, or set format: parquet",
    b"%PDF": "it is a PDF; extract its text first",
    b"\x89PNG": "it is an image; rename it to end in .png, or set format: image",
    b"\xff\xd8\xff": "it is an image; rename it to end in .jpg, or set format: image",
    b"\xff\xfe": "it is UTF-16; convert it to UTF-8",
    b"\xfe\xff": "it is UTF-16; convert it to UTF-8",
}


def told_by_signature(begin: bytes) -> str | None:
    """What a file is that begins so, and what to do with it, in a sentence; None where that is not known."""
    return next((said for signature, said in _SIGNATURES.items() if begin.startswith(signature)), None)
