"""A store as one process sees it through a bad network: every call gives up the turn, and any call may go wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from bucket import Bucket
from scheduler import Crash, Scheduler

from bucketdex.errors import PreconditionFailedError, StorageError, ThrottledError
from bucketdex.storage import GetRequest, Got, Listed, ObjectStore, OpenObject
from bucketdex.storage.stores import resuming

HEALED_AFTER_S = 12_000.0  # from then on the network is well, or an unlucky batch would never get through


class Toxicity(msgspec.Struct, frozen=True):
    """The chance of each fault, a store call. All zero: a perfect network."""

    throttled: float = 0.0
    lost_before: float = 0.0  # a timeout; nothing happened
    lost_after: float = 0.0  # a timeout; it happened
    late: float = 0.0  # a timeout; it happens seconds later
    conflict: float = 0.0  # a 409, or the 412 of one's own success that was sent again
    reset: float = 0.0  # a connection that breaks in the middle of a body
    damaged: float = 0.0  # a truncated or flipped read of an immutable file
    crash: float = 0.0
    stall: float = 0.0  # sleeps past every lease and grace period


class SimulatedStore(ObjectStore):
    """One actor's way to a bucket."""

    def __init__(self, bucket: Bucket, world: Scheduler, toxicity: Toxicity, counts: Counter[str]) -> None:
        self.url = "simulated://"
        self._bucket, self._world, self._toxicity, self._counts = bucket, world, toxicity, counts

    def get(self, request: GetRequest) -> Got:
        self._step()
        self._maybe_fail()
        got = self._bucket.get(request)
        if self._happens("damaged") and not request.key.endswith("manifest.json"):
            return msgspec.structs.replace(got, body=self._damage(got.body))
        return got

    def get_many(self, requests: Sequence[GetRequest]) -> Any:
        return [self._attempt(request) for request in requests]

    def open(self, key: str, *, storage_class: bool = False) -> OpenObject:
        self._step()
        self._maybe_fail()
        got = self._bucket.get(GetRequest(key))
        info = msgspec.structs.replace(got, body=b"")

        def reopen(offset: int) -> Iterator[bytes]:
            self._step()
            return self._chunks(self._bucket.get(GetRequest(key, offset, if_match=got.etag)).body)

        chunks = resuming(info, self._chunks(got.body), reopen, (ConnectionResetError,))
        return OpenObject(info, chunks, lambda: None)

    def put(self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
        self._step()
        if self._happens("lost_before") or self._happens("throttled"):
            raise ThrottledError("simulated: before the effect")
        if self._happens("late"):
            self._later(key, body, if_match, if_absent)
            raise StorageError("simulated: timeout, effect to come")
        etag = self._bucket.put(key, body, if_match=if_match, if_absent=if_absent)
        if self._happens("lost_after"):
            raise StorageError("simulated: timeout after the effect")
        if (if_match or if_absent) and self._happens("conflict"):
            raise PreconditionFailedError("simulated: 412 for one's own success")
        self._step()
        return etag

    def delete_many(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._step()
            self._maybe_fail()
            self._bucket.forget(key)

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[Listed]:
        self._step()
        self._maybe_fail()
        listed = list(self._bucket.list(prefix))
        for start in range(0, len(listed), 5):  # pages: the world moves on between them
            yield from listed[start : start + 5]
            self._step()

    def folders(self, prefix: str) -> Any:
        return sorted(
            {key[len(prefix) :].partition("/")[0] for key in self._bucket.live_keys() if key.startswith(prefix)}
        )

    def tags(self, key: str) -> dict[str, str]:
        return {}

    def with_retries(self, enabled: bool) -> ObjectStore:
        return self

    def _step(self) -> None:
        """Any store call may be the last of its process, or be followed by a long silence."""
        if self._happens("crash"):
            raise Crash
        self._world.pause(5_000.0 if self._happens("stall") else self._world.random.random() * 0.05)

    def _maybe_fail(self) -> None:
        if self._happens("throttled"):
            raise ThrottledError("simulated: 503 SlowDown")
        if self._happens("lost_before"):
            raise StorageError("simulated: timeout")

    def _later(self, key: str, body: bytes, if_match: str | None, if_absent: bool) -> None:
        def effect() -> None:
            try:
                self._bucket.put(key, body, if_match=if_match, if_absent=if_absent)
                self._counts["late effects"] += 1
            except StorageError:
                pass

        self._world.spawn("late put", effect, delay_s=self._world.random.random() * 20)

    def _chunks(self, body: bytes) -> Iterator[bytes]:
        half = len(body) // 2
        yield body[:half]
        self._step()
        if self._happens("reset"):
            raise ConnectionResetError("simulated")
        yield body[half:]

    def _damage(self, body: bytes) -> bytes:
        at = self._world.random.randrange(len(body)) if body else 0
        if self._world.random.random() < 0.5:
            return body[:at]
        return body[:at] + bytes([body[at] ^ 1 << self._world.random.randrange(8)]) + body[at + 1 :] if body else body

    def _happens(self, fault: str) -> bool:
        chance = getattr(self._toxicity, fault)
        if chance and self._world.elapsed_s < HEALED_AFTER_S and self._world.random.random() < chance:
            self._counts[fault] += 1
            return True
        return False
