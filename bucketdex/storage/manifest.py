"""The manifest and its compare-and-swap: the only module that replaces one. Changes with the commit protocol."""

from __future__ import annotations

from typing import NamedTuple

from bucketdex.storage.entries import (
    MANIFEST_FORMAT,
    MANIFEST_READER,
    Delta,
    FileEntry,
    Garbage,
    LogEntry,
    Manifest,
    Run,
    ViewState,
    decode_manifest,
    encode_manifest,
    touch_hash,
)

__all__ = [
    "MANIFEST_FORMAT",
    "MANIFEST_READER",
    "Delta",
    "FileEntry",
    "Garbage",
    "LogEntry",
    "Manifest",
    "Run",
    "Versioned",
    "ViewState",
    "decode_manifest",
    "encode_manifest",
    "touch_hash",
]


class Versioned(NamedTuple):
    """A manifest and the ETag of the object it was read from."""

    manifest: Manifest
    etag: str
