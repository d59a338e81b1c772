"""A store that counts what passes through it: the requests, bytes and round trips of a query or a benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Final, NamedTuple, TypeAlias

from bucketdex.storage.stores import Answers, GetRequest, Got, Listed, Names, ObjectStore, OpenObject

PAGE: Final = 1000  # keys in one request to list or delete


class Logged(NamedTuple):
    """One request: its operation, key and the bytes of its body."""

    op: str
    key: str
    bytes: int


Log: TypeAlias = list[Logged]


class CountingStore(ObjectStore):
    """Passes everything on to `inner`, and counts it.

    `requests` by operation (get, put, delete, list, tags); `bytes_in` read and `bytes_out` written; `rounds`: the depth
    of a path that waits for each call (one get_many is one round; calls made by several threads at once add up);
    `log` in order. What `with_retries` returns adds to the counts of `tally`, the store it was made from.
    """

    def __init__(self, inner: ObjectStore, tally: CountingStore | None = None) -> None:
        self.inner = inner
        self.url = inner.url
        self._tally = tally or self
        self._lock = Lock()
        self.reset()

    def reset(self) -> None:
        """Forget all counts."""
        self.requests: Counter[str] = Counter()
        self.bytes_in = 0
        self.bytes_out = 0
        self.rounds = 0
        self.log: Log = []

    def get(self, request: GetRequest) -> Got:
        size = 0
        try:
            got = self.inner.get(request)
            size = len(got.body)
        finally:
            self._count("get", request.key, read=size)
        return got

    def get_many(self, requests: Sequence[GetRequest]) -> Answers:
        if not requests:
            return []
        answers = self.inner.get_many(requests)
        for index, (request, answer) in enumerate(zip(requests, answers, strict=True)):
            size = len(answer.body) if isinstance(answer, Got) else 0
            self._count("get", request.key, rounds=int(index == 0), read=size)
        return answers

    def open(self, key: str, *, storage_class: bool = False) -> OpenObject:
        self._count("get", key)
        opened = self.inner.open(key, storage_class=storage_class)

        def counted() -> Iterator[bytes]:
            for chunk in opened.chunks():
                with self._tally._lock:
                    self._tally.bytes_in += len(chunk)
                yield chunk

        return OpenObject(opened.info, counted(), opened.close)

    def put(self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
        self._count("put", key, written=len(body))
        return self.inner.put(key, body, if_match=if_match, if_absent=if_absent)

    def delete_many(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), PAGE):
            self._count("delete", keys[start])
        self.inner.delete_many(keys)

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[Listed]:
        self._count("list", prefix)
        for index, item in enumerate(self.inner.list(prefix, start_after=start_after)):
            if index and index % PAGE == 0:
                self._count("list", prefix)
            yield item

    def folders(self, prefix: str) -> Names:
        self._count("list", prefix)
        return self.inner.folders(prefix)

    def tags(self, key: str) -> dict[str, str]:
        self._count("tags", key)
        return self.inner.tags(key)

    def with_retries(self, enabled: bool) -> ObjectStore:
        inner = self.inner.with_retries(enabled)
        return self if inner is self.inner else CountingStore(inner, self._tally)

    def _count(self, op: str, key: str, *, rounds: int = 1, read: int = 0, written: int = 0) -> None:
        tally = self._tally
        with tally._lock:
            tally.requests[op] += 1
            tally.rounds += rounds
            tally.bytes_in += read
            tally.bytes_out += written
            tally.log.append(Logged(op, key, read + written))
