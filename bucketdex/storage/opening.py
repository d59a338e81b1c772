"""From a URL or someone's obstore store to ours. Changes with the kinds of store that are allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bucketdex.errors import StorageError
from bucketdex.storage.obstore_store import ObstoreStore
from bucketdex.storage.s3_settings import settings_from_store, settings_from_url
from bucketdex.storage.s3_store import S3DataStore, S3IndexStore
from bucketdex.storage.stores import ObjectStore

if TYPE_CHECKING:
    from obstore.store import MemoryStore, S3Store

    StoreLike = str | ObjectStore | S3Store | MemoryStore

REFUSED = "the local file system has no conditional update, so commits could be lost: use s3://bucket or memory://"


def open_index_store(source: StoreLike, *, retries: bool = True) -> ObjectStore:
    """The store of an index: `s3://bucket[/prefix]`, `memory://` (a new, empty one at each call), or an obstore store.

    An S3 store is rebuilt from its configuration with our timeouts and bounded retries, or none. Makes no request.
    StorageError for a store without conditional updates, such as local files.
    """
    return _open(source, S3IndexStore, retries)


def open_data_store(source: StoreLike, *, retries: bool = True) -> ObjectStore:
    """The store of the data: as `open_index_store`, and on S3 every key reaches exactly its own object."""
    return _open(source, S3DataStore, retries)


def _open(source: Any, kind: type[S3IndexStore], retries: bool) -> ObjectStore:
    if isinstance(source, ObjectStore):
        return source
    from obstore import store as stores

    if isinstance(source, str):
        if source == "memory://":
            return ObstoreStore(source, stores.MemoryStore())
        if source.startswith("s3://") and len(source) > len("s3://"):
            return kind(settings_from_url(source), retries=retries)
        if source.startswith("file:"):
            raise StorageError(f"{source}: {REFUSED}")
        raise StorageError(f"{source!r} is no store: use s3://bucket, s3://bucket/prefix or memory://")
    if isinstance(source, stores.LocalStore):
        raise StorageError(f"LocalStore: {REFUSED}")
    if isinstance(source, stores.S3Store):
        return kind(settings_from_store(source), retries=retries)
    if isinstance(source, stores.MemoryStore):
        return ObstoreStore("memory://", source)
    raise StorageError(f"{type(source).__name__} is not supported: use an obstore S3Store or MemoryStore, or a URL")
