"""The object stores, the file format, the manifest and its compare-and-swap, paths."""

from bucketdex.storage.counting import CountingStore
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
from bucketdex.storage.file_reader import (
    block_request,
    footer_request,
    read_block,
    read_file,
    read_footer,
    split_weights,
)
from bucketdex.storage.file_writer import BLOCK_BYTES, FILE_BYTES, RunWriter
from bucketdex.storage.filter import filter_request, may_contain
from bucketdex.storage.format import FILE_FORMAT, EncodedFile, Footer
from bucketdex.storage.manifest import ManifestStore, SwapLostError, Versioned
from bucketdex.storage.opening import open_data_store, open_index_store
from bucketdex.storage.paths import (
    base_generation,
    delta_path,
    descriptor_path,
    manifest_path,
    table_of,
    table_prefix,
    tables_prefix,
    view_path,
)
from bucketdex.storage.stores import GetRequest, Got, Listed, ObjectStore, OpenObject

__all__ = [
    "BLOCK_BYTES",
    "FILE_BYTES",
    "FILE_FORMAT",
    "MANIFEST_FORMAT",
    "MANIFEST_READER",
    "CountingStore",
    "Delta",
    "EncodedFile",
    "FileEntry",
    "Footer",
    "Garbage",
    "GetRequest",
    "Got",
    "Listed",
    "LogEntry",
    "Manifest",
    "ManifestStore",
    "ObjectStore",
    "OpenObject",
    "Run",
    "RunWriter",
    "SwapLostError",
    "Versioned",
    "ViewState",
    "base_generation",
    "block_request",
    "decode_manifest",
    "delta_path",
    "descriptor_path",
    "encode_manifest",
    "filter_request",
    "footer_request",
    "manifest_path",
    "may_contain",
    "open_data_store",
    "open_index_store",
    "read_block",
    "read_file",
    "read_footer",
    "split_weights",
    "table_of",
    "table_prefix",
    "tables_prefix",
    "touch_hash",
    "view_path",
]
