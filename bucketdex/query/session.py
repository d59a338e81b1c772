"""What a Database keeps between queries: the last manifest of each table, and a bounded cache of immutable blocks.

Every query asks whether the manifest has changed (If-None-Match), and in the same round trip reads what the manifest in
memory says it will need: a warm look-up is one round trip, and no answer is older than its question.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from bucketdex.errors import BucketdexError, QueryError, SnapshotExpiredError, StorageError, TableNotFoundError
from bucketdex.query.reader import Known, Reader
from bucketdex.runtime import Runtime
from bucketdex.storage import CountingStore, GetRequest, Got, ManifestStore, ObjectStore, get_spans
from bucketdex.views import BlockCache

T = TypeVar("T")
R = TypeVar("R")
Prepare = Callable[[Reader], tuple[T, list[GetRequest]]]


class Session:
    """Opens readers. Safe between threads; readers are not."""

    def __init__(self, store: ObjectStore, runtime: Runtime, cache: BlockCache) -> None:
        self.store = store
        self.runtime = runtime
        self._cache = cache
        self._manifests = ManifestStore(
            store, runtime
        )  # it keeps a large manifest's parts; fetching those isn't counted
        self._known: dict[str, Known] = {}
        self._lock = Lock()

    def open(self, table: str, prepare: Prepare[T], *, at: int | None = None) -> tuple[Reader, T]:
        """A reader of the newest generation (or of generation `at`), and what `prepare` made of it.

        `prepare` plans and names the requests it will need. One round trip with a manifest in memory that still holds,
        where those requests are among it; a changed one is a second look. TableNotFoundError for a missing or dropped
        table. A QueryError says so where the table that is being built in this one's place would do.
        """
        store = CountingStore(self.store)
        with self._lock:
            known = self._known.get(table)
        if known is None:
            answer = store.get_many([self._manifests.request(table)])[0]
            return self._prepared(Reader(store, self._received(table, answer), self._cache, at), prepare)
        reader = Reader(store, known, self._cache, at)
        problem: Exception | None = None
        requests: list[GetRequest] = []
        try:
            prepared, requests = prepare(reader)
        except (QueryError, SnapshotExpiredError) as error:  # the newest manifest may well serve it
            problem = error
        answer, *answers = get_spans(store, [self._manifests.request(table, known.versioned), *requests])
        newest = self._received(table, answer, known)
        if newest is not known:
            _keep(reader, requests, answers)
            return self._prepared(Reader(store, newest, self._cache, at), prepare)
        if problem is not None:
            raise self._explained(reader, prepare, problem)
        reader.snapshot.warm(requests, answers)
        return reader, prepared

    def read(self, table: str, prepare: Prepare[T], action: Callable[[Reader, T], R], *, at: int | None = None) -> R:
        """`action` over an opened reader; where a file had vanished, once more from the newest manifest."""
        try:
            return action(*self.open(table, prepare, at=at))
        except SnapshotExpiredError:
            if at is not None:
                raise
            self.forget(table)
            return action(*self.open(table, prepare))

    def known(self, table: str) -> Known:
        """The manifest in memory, which may not be the newest; one request where there is none. TableNotFoundError."""
        with self._lock:
            known = self._known.get(table)
        if known is not None:
            return known
        return self._received(table, self.store.get_many([self._manifests.request(table)])[0])

    def forget(self, table: str) -> None:
        """The next query loads the manifest afresh."""
        with self._lock:
            self._known.pop(table, None)

    def _prepared(self, reader: Reader, prepare: Prepare[T]) -> tuple[Reader, T]:
        try:
            return reader, prepare(reader)[0]
        except QueryError as error:
            raise self._explained(reader, prepare, error) from error

    def _explained(self, reader: Reader, prepare: Prepare[T], error: Exception) -> Exception:
        """The error, or one that says that the table's successor will answer. One GET where there is one."""
        name = reader.known.manifest.successor
        if name is None or not isinstance(error, QueryError):
            return error
        try:
            answer = self.store.get_many([self._manifests.request(name)])[0]
            later = Known(self._manifests.received(name, answer))
            prepare(Reader(CountingStore(self.store), later, self._cache))
        except (BucketdexError, KeyError):
            return error
        return type(error)(
            f"{error} (the table is being rebuilt, and will answer this once status() tells of no successor)"
        )

    def _received(self, table: str, answer: Got | StorageError, known: Known | None = None) -> Known:
        """What the answer to the manifest's request means: `known` itself, or a newer one, kept for the next query."""
        try:
            versioned = self._manifests.received(table, answer, None if known is None else known.versioned)
            if versioned.manifest.state == "dropped":
                raise TableNotFoundError.dropped(table)
        except TableNotFoundError:
            self.forget(table)
            raise
        if known is not None and versioned is known.versioned:
            return known
        newest = Known(versioned, known)
        with self._lock:
            current = self._known.get(table)
            if current is None or current.manifest.generation <= newest.manifest.generation:
                self._known[table] = newest
        return newest


def _keep(reader: Reader, requests: list[GetRequest], answers: list[Got | StorageError]) -> None:
    """What was read for a manifest that has changed is still good: files are immutable."""
    pairs = [(r, a) for r, a in zip(requests, answers, strict=True) if isinstance(a, Got)]
    reader.snapshot.warm([request for request, _ in pairs], [answer for _, answer in pairs])
