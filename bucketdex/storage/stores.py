"""What Bucketdex asks of an object store, and nothing more. Changes when a caller needs another operation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Final, NamedTuple, TypeAlias

import msgspec

from bucketdex.errors import ObjectChangedError, PreconditionFailedError, StorageError

CONCURRENCY_MAX: Final = 32
RESUMES_MAX: Final = 5  # of one body, without progress between them


class GetRequest(NamedTuple):
    """A GET of a whole object or of `length` bytes from `start`; ETags make it conditional."""

    key: str
    start: int | None = None
    length: int | None = None
    if_match: str | None = None
    if_none_match: str | None = None


class Got(msgspec.Struct):
    """An object, or a range of it. `size` is that of the whole object; `last_modified` in seconds since the epoch;
    `storage_class` is "" where it wasn't asked for and isn't known (see `ObjectStore.open`)."""

    key: str
    body: bytes
    etag: str
    size: int
    last_modified: float
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    content_type: str = ""
    storage_class: str = ""


class Listed(NamedTuple):
    """One object of a listing."""

    key: str
    size: int
    etag: str
    last_modified: float


Answers: TypeAlias = list[Got | StorageError]
Names: TypeAlias = list[str]  # (inside ObjectStore, `list` is the operation)


class OpenObject:
    """A body that is being read: `info` (a Got without body) and its chunks, once, in order. Close it when done."""

    def __init__(self, info: Got, chunks: Iterator[bytes], close: Callable[[], None]) -> None:
        self.info = info
        self._chunks = chunks
        self.close = close

    def chunks(self) -> Iterator[bytes]:
        """All of the body or an error, never a part taken for the whole. ObjectChangedError when the object was
        replaced after a connection broke; StorageError when reading on fails."""
        return self._chunks


class ObjectStore(ABC):
    """A bucket, or a prefix of one. Safe for use by many threads. One call is one request unless it says otherwise.

    Raises KeyMissingError, NotModifiedError, PreconditionFailedError, AccessDeniedError, ThrottledError,
    UnreadableObjectError, else StorageError; the cause is kept, and no message holds a credential.
    """

    url: str
    _pool: ThreadPoolExecutor | None = None
    _pool_lock: Lock = Lock()

    @abstractmethod
    def get(self, request: GetRequest) -> Got:
        """One object or range. A range past the end of the object is an error; one that reaches past it is cut."""

    @abstractmethod
    def open(self, key: str, *, storage_class: bool = False) -> OpenObject:
        """Start to read a whole object: one GET, and one more by If-Match and Range for each broken connection.

        With `storage_class` that is known too; on S3 it takes the slower client, so ask only where it is needed.
        """

    @abstractmethod
    def put(self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
        """Replace the object atomically in one request and return its ETag. No reader ever sees a part.

        Conditional by `if_match` (the ETag to be replaced) or `if_absent`. The error of a conditional PUT, a failed
        precondition included, doesn't prove that nothing was written.
        """

    @abstractmethod
    def delete_many(self, keys: Sequence[str]) -> None:
        """Delete; missing keys are no error. One request for every 1,000 keys where the store can."""

    @abstractmethod
    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[Listed]:
        """Every object whose key starts with `prefix`, in ascending key order; one request for every 1,000."""

    @abstractmethod
    def folders(self, prefix: str) -> Names:
        """The names directly below `prefix` (which ends with "/") that have something below them, ascending."""

    @abstractmethod
    def tags(self, key: str) -> dict[str, str]:
        """The object's tags."""

    @abstractmethod
    def with_retries(self, enabled: bool) -> ObjectStore:
        """The same bucket with the client's retries on or off. A conditional PUT must go out once: a retry of one that
        landed reports a failed precondition."""

    def get_many(self, requests: Sequence[GetRequest]) -> Answers:
        """All requests at once (at most 32 in flight): one round trip. Errors are values; the order is kept."""
        if len(requests) <= 1:
            return [self._attempt(request) for request in requests]
        return list(self._executor().map(self._attempt, requests))

    def _attempt(self, request: GetRequest) -> Got | StorageError:
        try:
            return self.get(request)
        except StorageError as error:
            return error

    def _executor(self) -> ThreadPoolExecutor:
        with self._pool_lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(CONCURRENCY_MAX, thread_name_prefix="bucketdex-get")
            return self._pool


def resuming(
    info: Got,
    chunks: Iterable[bytes],
    reopen: Callable[[GetRequest], Iterable[bytes]],
    broken: tuple[type[Exception], ...],
) -> Generator[bytes, None, None]:
    """The chunks of one body, picked up again with `reopen` when one of the `broken` errors ends them early.

    Its request is for the rest, and pinned to the ETag: a failed precondition becomes ObjectChangedError, since the
    bytes already handed out belong to another object.
    """
    offset = 0
    attempts = 0
    source = iter(chunks)
    while True:
        failure: Exception | None = None
        try:
            for chunk in source:
                if chunk:
                    offset += len(chunk)
                    attempts = 0
                    yield chunk
        except broken as error:
            failure = error
        if offset >= info.size and (failure is None or offset == info.size):
            break
        attempts += 1
        if attempts > RESUMES_MAX:
            raise StorageError(
                f"the body of {info.key!r} breaks off at byte {offset} of {info.size}: read it again"
            ) from failure
        try:
            source = iter(reopen(GetRequest(info.key, start=offset, if_match=info.etag)))
        except PreconditionFailedError as error:
            raise ObjectChangedError(f"{info.key!r} was replaced while it was read: read it again") from error
    if offset != info.size:
        raise StorageError(f"the body of {info.key!r} has {offset} bytes instead of {info.size}: read it again")
