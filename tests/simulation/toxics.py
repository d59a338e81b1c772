"""A store as one process sees it through a bad network: every call gives up the turn, and any call may go wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any, NamedTuple
from zlib import crc32

import msgspec
from bucket import Bucket
from scheduler import Crash, Scheduler

from bucketdex.errors import (
    AccessDeniedError,
    PreconditionFailedError,
    StorageError,
    ThrottledError,
    UnreadableObjectError,
)
from bucketdex.storage import GetRequest, Got, Listed, ObjectStore, OpenObject
from bucketdex.storage.paths import tables_prefix
from bucketdex.storage.stores import resuming

HEALED_AFTER_S = 9_000.0  # from then on the network is well, or an unlucky batch would never get through
PAGE_KEYS = 5
TABLES = tables_prefix()  # what lies elsewhere carries no checksum of its own: S3's transport does


class Toxicity(msgspec.Struct, frozen=True):
    """The chance of each fault, a store call. All zero: a perfect network."""

    throttled: float = 0.0
    lost_before: float = 0.0  # a timeout; nothing happened
    lost_after: float = 0.0  # a timeout; it happened
    late: float = 0.0  # a timeout; it happens seconds later
    sent_twice: float = 0.0  # a 412 for one's own success, which somebody on the way sent again
    busy: float = 0.0  # a 409; nothing happened
    reset: float = 0.0  # a connection that breaks in the middle of a body
    damaged: float = 0.0  # a truncated or flipped read of a file; of a manifest, a truncated one
    crash: float = 0.0
    slow: float = 0.0  # waits for seconds to minutes
    stall: float = 0.0  # sleeps past every lease and grace period


FAULTS = Toxicity.__struct_fields__
SWAP_FAULTS = frozenset(
    {"lost_after", "late", "sent_twice", "busy", "slow"}
)  # more of them where a manifest is swapped


class Hesitance(NamedTuple):
    """The chance that a process dwells on a manifest before it reads or replaces it, and for how long at most."""

    chance: float = 0.0
    most_s: float = 60.0


RESOLUTE = Hesitance()


class SimulatedStore(ObjectStore):
    """One actor's way to a bucket. `denied` says which keys it may not read."""

    def __init__(
        self, bucket: Bucket, world: Scheduler, toxicity: Toxicity, counts: Counter[str], *,
        denied: Callable[[str], bool] = lambda key: False, swap_factor: float = 1.0, hesitance: Hesitance = RESOLUTE,
    ) -> None:  # fmt: skip
        self.url = "simulated://"
        self._bucket, self._world, self._counts, self._denied = bucket, world, counts, denied
        self._calm = toxicity == Toxicity()
        self._hesitance = hesitance
        self.was_told = False  # the last conditional PUT failed by the bucket's own answer: somebody came first
        self._chances = {fault: getattr(toxicity, fault) for fault in FAULTS}
        self._swap_chances = {
            fault: min(0.5, chance * swap_factor) if fault in SWAP_FAULTS else chance
            for fault, chance in self._chances.items()
        }

    def get(self, request: GetRequest) -> Got:
        self._step("get", request.key)
        return self._get(request)

    def _get(self, request: GetRequest) -> Got:
        self._maybe_fail()
        self._maybe_hesitate(request.key)
        self._maybe_wait()
        got = self._bucket.get(request)
        if got.key.startswith(TABLES) and self._happens("damaged"):
            return msgspec.structs.replace(got, body=self._damage(got))
        return got

    def get_many(self, requests: Sequence[GetRequest]) -> Any:
        """Side by side: the world moves on between some of them only."""
        answers: list[Got | StorageError] = []
        for i, request in enumerate(requests):
            if i % 6 == 0:
                self._step("get", request.key)
            else:
                self._world.note("get", request.key)
            try:
                answers.append(self._get(request))
            except StorageError as error:
                answers.append(error)
        return answers

    def open(self, key: str, *, storage_class: bool = False) -> OpenObject:
        self._step("open", key)
        self._maybe_fail()
        if self._denied(key):
            self._counts["denied"] += 1
            raise AccessDeniedError(f"simulated: 403 {key}")
        self._maybe_wait()
        got = self._bucket.get(GetRequest(key))
        if key in self._bucket.archived:
            raise UnreadableObjectError(f"simulated: {key} is archived")
        info = msgspec.structs.replace(got, body=b"")

        def reopen(request: GetRequest) -> Iterator[bytes]:
            self._step("reopen", key)
            return self._chunks(self._bucket.get(request).body)

        chunks = resuming(info, self._chunks(got.body), reopen, (ConnectionResetError,))
        return OpenObject(info, chunks, lambda: None)

    def put(self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
        self._step("put", key, body)
        conditional = bool(if_match or if_absent)
        self.was_told = False
        chances = self._swap_chances if conditional else self._chances
        if self._happens("lost_before") or self._happens("throttled"):
            raise ThrottledError("simulated: before the effect")
        self._maybe_hesitate(key)
        if conditional and self._happens("busy", chances):
            raise PreconditionFailedError("simulated: 409, another write is in progress")
        if self._happens("late", chances):
            self._later(partial(self._bucket.put, key, body, if_match=if_match, if_absent=if_absent))
            raise StorageError("simulated: timeout, effect to come")
        self._maybe_wait(chances)
        try:
            etag = self._bucket.put(key, body, if_match=if_match, if_absent=if_absent)
        except PreconditionFailedError:
            self.was_told = True
            raise
        if self._happens("lost_after", chances):
            raise StorageError("simulated: timeout after the effect")
        if conditional and self._happens("sent_twice", chances):
            raise PreconditionFailedError("simulated: 412 for one's own success")
        self._step("put done", key)
        return etag

    def delete_many(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._step("delete", key)
            self._maybe_fail()
            if self._happens("late"):
                self._later(partial(self._bucket.forget, key))
                raise StorageError("simulated: timeout, effect to come")
            self._bucket.forget(key)
            if self._happens("lost_after"):
                raise StorageError("simulated: timeout after the effect")

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[Listed]:
        while True:
            self._step("list", prefix)
            self._maybe_fail()
            # One page and whether there is more: between pages the world moves on.
            page = list(islice(self._bucket.list(prefix, start_after), PAGE_KEYS + 1))
            yield from page[:PAGE_KEYS]
            if len(page) <= PAGE_KEYS:
                return
            start_after = page[PAGE_KEYS - 1].key

    def folders(self, prefix: str) -> Any:
        return sorted(
            {key[len(prefix) :].partition("/")[0] for key in self._bucket.live_keys() if key.startswith(prefix)}
        )

    def tags(self, key: str) -> dict[str, str]:
        return {}

    def with_retries(self, enabled: bool) -> ObjectStore:
        return self

    def _step(self, operation: str, key: str, body: bytes = b"") -> None:
        """Any store call may be the last of its process, or be followed by a long silence."""
        self._world.note(operation, key, crc32(body))
        if self._calm:
            self._world.pause(self._world.random.random() * 0.05)
            return
        if self._happens("crash"):
            raise Crash
        self._world.pause(5_000.0 if self._happens("stall") else self._world.random.random() * 0.05)

    def _maybe_fail(self) -> None:
        if self._happens("throttled"):
            raise ThrottledError("simulated: 503 SlowDown")
        if self._happens("lost_before"):
            raise StorageError("simulated: timeout")

    def _maybe_wait(self, chances: dict[str, float] | None = None) -> None:
        if self._happens("slow", chances):
            self._world.pause(self._world.random.random() * 100)

    def _maybe_hesitate(self, key: str) -> None:
        """What comes between the calls of whoever puts one table in another's place is too rare to wait for."""
        chance, most_s = self._hesitance
        if chance and key.endswith("/manifest.json") and self._world.random.random() < chance:
            self._counts["hesitations"] += 1
            self._world.pause(self._world.random.random() * most_s)

    def _later(self, request: Callable[[], object]) -> None:
        def effect() -> None:
            with suppress(StorageError):
                request()
                self._counts["late effects"] += 1

        world = self._world
        delay_s = world.random.random() * 20
        world.spawn("late effect", effect, delay_s=delay_s, skew_s=world.current.skew_s, call=world.current.call)

    def _chunks(self, body: bytes) -> Iterator[bytes]:
        half = len(body) // 2
        yield body[:half]
        self._step("chunk", "")
        if self._happens("reset"):
            self._world.pause(self._world.random.choice([0.0, 1.0, 10.0]))
            if self._world.random.random() < 0.3:
                return  # cut off, as if this were the end
            raise ConnectionResetError("simulated")
        yield body[half:]

    def _damage(self, got: Got) -> bytes:
        body, r = got.body, self._world.random
        if not body:
            return body
        at = int(r.random() * len(body))
        if r.random() < 0.5 or got.key.endswith("manifest.json"):
            return body[:at]
        return body[:at] + bytes([body[at] ^ 1 << int(r.random() * 8)]) + body[at + 1 :]

    def _happens(self, fault: str, chances: dict[str, float] | None = None) -> bool:
        chance = (chances or self._chances)[fault]
        if chance and self._world.elapsed_s < HEALED_AFTER_S and self._world.random.random() < chance:
            self._counts[fault] += 1
            return True
        return False


class StillStore(ObjectStore):
    """A bucket at one moment: reading it takes no time."""

    def __init__(self, bucket: Bucket) -> None:
        self.url = "simulated://"
        self._bucket = bucket

    def get(self, request: GetRequest) -> Got:
        return self._bucket.get(request)

    def get_many(self, requests: Sequence[GetRequest]) -> Any:
        return [self._attempt(request) for request in requests]

    def open(self, key: str, *, storage_class: bool = False) -> OpenObject:
        raise NotImplementedError

    def put(self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
        raise NotImplementedError

    def delete_many(self, keys: Sequence[str]) -> None:
        raise NotImplementedError

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[Listed]:
        return self._bucket.list(prefix, start_after)

    def folders(self, prefix: str) -> Any:
        raise NotImplementedError

    def tags(self, key: str) -> dict[str, str]:
        raise NotImplementedError

    def with_retries(self, enabled: bool) -> ObjectStore:
        return self
