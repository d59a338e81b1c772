"""An object store through obstore: the fast path for every key that its paths reproduce. Changes with obstore."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from bucketdex.errors import StorageError
from bucketdex.storage.failures import from_obstore
from bucketdex.storage.stores import GetRequest, Got, Listed, Names, ObjectStore, OpenObject, resuming

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, PutMode

CHUNK_BYTES: Final = 1 << 20
LIST_PAGE: Final = 1000

# Keys that obstore alters without a word (a "/" at either end) or refuses (empty, "." and ".." segments, controls).
_odd = re.compile(r"\A\Z|\A/|/\Z|//|(?:\A|/)\.{1,2}(?:/|\Z)|[\x00-\x1f\x7f]")


def is_odd(key: str) -> bool:
    """Whether obstore would read another object than `key`, or none."""
    return _odd.search(key) is not None


class ObstoreStore(ObjectStore):
    """Any obstore store that has conditional updates. `prefix` is "" or ends with "/". Odd keys are refused."""

    _storage_class = "STANDARD"  # where obstore names none

    def __init__(self, url: str, inner: Any, prefix: str = "") -> None:
        self.url = url
        self._inner = inner
        self._prefix = prefix

    def get(self, request: GetRequest) -> Got:
        path = self._path(request.key)
        try:
            result = self._inner.get(path, options=_options(request))
            return self._got(request.key, result, result.bytes().to_bytes())
        except Exception as error:
            raise self._failure(error, "GET", request.key) from error

    def open(self, key: str, *, storage_class: bool = False) -> OpenObject:
        path = self._path(key)

        def read(request: GetRequest) -> GetResult:
            try:
                result: GetResult = self._inner.get(path, options=_options(request))
            except Exception as error:
                raise self._failure(error, "GET", key) from error
            return result

        first = read(GetRequest(key))
        info = self._got(key, first, b"")

        def reopen(request: GetRequest) -> Iterator[bytes]:
            return iter(read(request).stream(CHUNK_BYTES))

        chunks = resuming(info, first.stream(CHUNK_BYTES), reopen, (Exception,))
        return OpenObject(info, chunks, chunks.close)

    def put(self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
        assert not (if_match is not None and if_absent)
        path = self._path(key)
        mode: PutMode = "overwrite"
        if if_match is not None:
            mode = {"e_tag": if_match}
        elif if_absent:
            mode = "create"
        try:
            etag = self._inner.put(path, body, mode=mode, use_multipart=False)["e_tag"]
        except Exception as error:
            raise self._failure(error, "PUT", key) from error
        if etag is None:
            raise StorageError(f"PUT {self.url}/{key}: the store returns no ETag, so it has no conditional updates")
        return str(etag)

    def delete_many(self, keys: Sequence[str]) -> None:
        if not keys:
            return
        paths = [self._path(key) for key in keys]
        try:
            self._inner.delete(paths)
        except FileNotFoundError:
            pass
        except Exception as error:
            raise self._failure(error, "DELETE", keys[0]) from error

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[Listed]:
        # obstore's prefixes are whole segments; ours are strings.
        folder = self._prefix + prefix.rpartition("/")[0]
        offset = None if start_after is None else self._prefix + start_after
        wanted = self._prefix + prefix
        cut = len(self._prefix)
        try:
            for page in self._inner.list(folder or None, offset=offset, chunk_size=LIST_PAGE):
                for meta in page:
                    path = meta["path"]
                    if path.startswith(wanted):
                        modified = meta["last_modified"].timestamp()
                        yield Listed(path[cut:], meta["size"], meta["e_tag"] or "", modified)
        except Exception as error:
            raise self._failure(error, "LIST", prefix) from error

    def folders(self, prefix: str) -> Names:
        path = (self._prefix + prefix).rstrip("/")
        try:
            found = self._inner.list_with_delimiter(path or None)["common_prefixes"]
        except Exception as error:
            raise self._failure(error, "LIST", prefix) from error
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def tags(self, key: str) -> dict[str, str]:
        return {}

    def with_retries(self, enabled: bool) -> ObjectStore:
        return self

    def _got(self, key: str, result: GetResult, body: bytes) -> Got:
        meta = result.meta
        attributes = dict(result.attributes)
        return Got(
            key,
            body,
            meta["e_tag"] or "",
            meta["size"],
            meta["last_modified"].timestamp(),
            content_type=attributes.pop("Content-Type", ""),
            storage_class=attributes.pop("Storage-Class", self._storage_class),
            metadata={name: value for name, value in attributes.items() if name not in _HEADERS},
        )

    def _path(self, key: str) -> str:
        if is_odd(key):
            raise StorageError(
                f"{self.url} cannot hold the key {key!r}: it has an empty, '.' or '..' segment or a control"
            )
        return self._prefix + key

    def _failure(self, error: Exception, operation: str, key: str) -> StorageError:
        return error if isinstance(error, StorageError) else from_obstore(error, operation, f"{self.url}/{key}")


def _options(request: GetRequest) -> GetOptions | None:
    options: GetOptions = {}
    if request.length is not None:
        start = request.start or 0
        options["range"] = (start, start + request.length)
    elif request.start:
        options["range"] = {"offset": request.start}
    if request.if_match is not None:
        options["if_match"] = request.if_match
    if request.if_none_match is not None:
        options["if_none_match"] = request.if_none_match
    return options or None


_HEADERS: Final = frozenset({"Content-Disposition", "Content-Encoding", "Content-Language", "Cache-Control"})
