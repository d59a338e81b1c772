"""Processes on a virtual clock: the real engine, S3's latency, one core each. Changes with what takes time.

What a process waits for is moved past in no time; what its own code takes is measured on this machine and added. So the
figures are modelled: by stated latencies, by this machine's core, and by nothing else.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import NamedTuple, TypeVar

import msgspec
from greenlet import getcurrent, greenlet

from bucketdex.errors import KeyMissingError, NotModifiedError, PreconditionFailedError
from bucketdex.runtime import CONCURRENCY_MAX, Runtime
from bucketdex.storage import GetRequest, Got, Listed, ObjectStore
from bucketdex.storage.stores import Answers, Names, OpenObject

T = TypeVar("T")
R = TypeVar("R")

START = 1_700_000_000.0
REQUEST_CPU_S = 0.00014  # of the client, a request; measured against a local S3 server


class Latency(NamedTuple):
    """Seconds that S3 takes to answer, uniform between two bounds. The effect is in the middle."""

    get_s: tuple[float, float] = (0.015, 0.030)
    put_s: tuple[float, float] = (0.030, 0.060)


S3 = Latency()


class World:
    """Runs actors, each until it waits, in the order of the clock. Everything random comes from one seed."""

    def __init__(self, seed: int) -> None:
        self.now = START
        self.random = random.Random(seed)
        self.resumed = 0.0  # thread time at which the running actor went on
        self._main = getcurrent()
        self._order = count()
        self._due: list[tuple[float, int, greenlet]] = []

    def spawn(self, body: Callable[[], object], delay_s: float = 0.0) -> None:
        """Adds an actor. What it raises ends the whole run."""
        self.wake(greenlet(body, self._main), delay_s)

    def wake(self, actor: greenlet, delay_s: float = 0.0) -> None:
        """Has an actor go on in `delay_s`."""
        heapq.heappush(self._due, (self.now + delay_s, next(self._order), actor))

    def sleep(self, seconds: float) -> None:
        """Waits. Outside of the actors, as while a table is set up, nothing else goes on meanwhile."""
        if self.is_actor:
            self.wake(getcurrent(), seconds)
            self.park()
        else:
            self.now += seconds

    def park(self) -> None:
        """Waits until somebody wakes this actor."""
        self._main.switch()

    @property
    def is_actor(self) -> bool:
        """Whether it is an actor that asks."""
        return getcurrent() is not self._main

    def run(self, until: float = float("inf")) -> None:
        """Runs until nobody has anything left to do, or the clock reaches `until`."""
        while self._due and self._due[0][0] <= until:
            self.now, _, actor = heapq.heappop(self._due)
            self.resumed = time.thread_time()
            actor.switch()
        self.now = max(self.now, until) if until < float("inf") else self.now


class VirtualRuntime(Runtime):
    """One process with one core; as many threads as the engine wants, which share it."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._busy_until = world.now

    def now(self) -> float:
        return self._world.now

    def token(self) -> str:
        return f"{self._world.random.getrandbits(64):016x}"

    def uniform(self, low: float, high: float) -> float:
        return self._world.random.uniform(low, high)

    def sleep(self, seconds: float) -> None:
        self._world.sleep(self.spent() + seconds)

    def spent(self, requests: int = 0) -> float:
        """Seconds until the core has done what this thread asked of it since it last went on, and sent `requests`."""
        now = time.thread_time()
        used = now - self._world.resumed + requests * REQUEST_CPU_S
        self._world.resumed = now
        self._busy_until = max(self._busy_until, self._world.now) + used
        return self._busy_until - self._world.now

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        work = list(items)
        if len(work) <= 1 or not self._world.is_actor:
            return [function(item) for item in work]
        results: dict[int, R] = {}
        failures: dict[int, Exception] = {}
        left = iter(enumerate(work))
        parent, lanes = getcurrent(), min(len(work), CONCURRENCY_MAX)
        ended = count(1)

        def lane() -> None:
            for index, item in left:
                try:
                    results[index] = function(item)
                except Exception as error:
                    failures[index] = error
            if next(ended) == lanes:
                self._world.wake(parent, self.spent())

        for _ in range(lanes):
            self._world.spawn(lane, self.spent())
        self._world.park()
        if failures:
            raise failures[min(failures)]
        return [results[index] for index in range(len(work))]


class Shelf(ObjectStore):
    """A bucket in memory, unversioned, whose every operation is one step of the world."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.objects: dict[str, Got] = {}
        self._numbers = count(1)

    def get(self, request: GetRequest) -> Got:
        found = self.objects.get(request.key)
        if found is None:
            raise KeyMissingError(request.key)
        if request.if_none_match == found.etag:
            raise NotModifiedError(request.key)
        if request.if_match is not None and request.if_match != found.etag:
            raise PreconditionFailedError(request.key)
        start = request.start or 0
        end = None if request.length is None else start + request.length
        return found if (start, end) == (0, None) else msgspec.structs.replace(found, body=found.body[start:end])

    def get_many(self, requests: Sequence[GetRequest]) -> Answers:
        return [self._attempt(request) for request in requests]

    def open(self, key: str, *, storage_class: bool = False) -> OpenObject:
        found = self.get(GetRequest(key))
        return OpenObject(msgspec.structs.replace(found, body=b""), iter([found.body]), lambda: None)

    def put(self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
        found = self.objects.get(key)
        if (if_absent and found is not None) or (if_match is not None and (not found or found.etag != if_match)):
            raise PreconditionFailedError(key)
        etag = f'"{next(self._numbers)}"'
        self.objects[key] = Got(key, body, etag, len(body), START, storage_class="STANDARD")
        return etag

    def delete_many(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.objects.pop(key, None)

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[Listed]:
        for key in sorted(key for key in self.objects if key.startswith(prefix) and key > (start_after or "")):
            found = self.objects[key]
            yield Listed(key, found.size, found.etag, found.last_modified)

    def folders(self, prefix: str) -> Names:
        below = (key.removeprefix(prefix) for key in self.objects if key.startswith(prefix))
        return sorted({name.partition("/")[0] for name in below if "/" in name})

    def tags(self, key: str) -> dict[str, str]:
        return {}

    def with_retries(self, enabled: bool) -> ObjectStore:
        return self


class DistantStore(ObjectStore):
    """Another store with S3's latency, as one process sees it."""

    def __init__(self, inner: ObjectStore, world: World, runtime: VirtualRuntime, latency: Latency) -> None:
        self.inner, self.url = inner, inner.url
        self._world, self._runtime, self._latency = world, runtime, latency

    def get(self, request: GetRequest) -> Got:
        return self._answered(self._latency.get_s, lambda: self.inner.get(request))

    def get_many(self, requests: Sequence[GetRequest]) -> Answers:
        answers: Answers = []
        for start in range(0, len(requests), CONCURRENCY_MAX):
            some = requests[start : start + CONCURRENCY_MAX]
            answers += self._answered(self._latency.get_s, lambda some=some: self.inner.get_many(some), len(some))
        return answers

    def open(self, key: str, *, storage_class: bool = False) -> OpenObject:
        return self._answered(self._latency.get_s, lambda: self.inner.open(key, storage_class=storage_class))

    def put(self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
        put = lambda: self.inner.put(key, body, if_match=if_match, if_absent=if_absent)  # noqa: E731
        return self._answered(self._latency.put_s, put)

    def delete_many(self, keys: Sequence[str]) -> None:
        if keys:
            self._answered(self._latency.put_s, lambda: self.inner.delete_many(keys))

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[Listed]:
        listed = list(self.inner.list(prefix, start_after=start_after))
        for _ in range(0, len(listed) + 1, 1000):
            self._answered(self._latency.put_s, lambda: None)
        return iter(listed)

    def folders(self, prefix: str) -> Names:
        return self._answered(self._latency.put_s, lambda: self.inner.folders(prefix))

    def tags(self, key: str) -> dict[str, str]:
        return self._answered(self._latency.get_s, lambda: self.inner.tags(key))

    def with_retries(self, enabled: bool) -> ObjectStore:
        return self

    def _answered(self, bounds: tuple[float, float], effect: Callable[[], R], requests: int = 1) -> R:
        """A round of requests: there, the effect, and back; of several the slowest counts."""
        draw = self._world.random
        half = max(draw.uniform(*bounds) for _ in range(requests)) / 2
        self._world.sleep(self._runtime.spent(requests) + half)
        try:
            return effect()
        finally:
            self._world.sleep(self._runtime.spent() + half)
