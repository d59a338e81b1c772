"""A deployment on the virtual clock: arrivals, pollers, indexers, the maintenance queue, compactors, the schedule.

Changes with what the stack sets.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import NamedTuple

from greenlet import getcurrent, greenlet

from benchmarks.datasets import ORDERS
from benchmarks.virtual import S3, START, DistantStore, Shelf, VirtualRuntime, World
from bucketdex.engine import Engine, Event
from bucketdex.errors import CommitGaveUpError
from bucketdex.storage import CountingStore, GetRequest, Got, Manifest
from bucketdex.storage.stores import OpenObject

POLLERS = 5  # of an event source on a standard queue; each fills a window of its own
WINDOW_S = 2.0
BATCH = 100
INDEXERS = 8
COMPACTIONS_AT_ONCE = 4
REPEAT_S = 15  # a view is asked for at most once in this time
BUDGET_S = 600.0  # of a compactor's 15 minutes, before it lets go
SCHEDULE_S = 900.0
COUNTRIES = ("DE", "FR", "US", "GB", "IT")


class Generated(Shelf):
    """A bucket whose objects are made when they are read: `rows` orders each, told by the number in the key."""

    def __init__(self, rows: int) -> None:
        super().__init__("memory://data")
        self._rows = rows

    def get(self, request: GetRequest) -> Got:
        first = int(request.key.rpartition("/")[2]) * self._rows
        body = b"".join(_order(number) for number in range(first, first + self._rows))
        return Got(request.key, body, f'"{first}"', len(body), START, storage_class="STANDARD")

    def open(self, key: str, *, storage_class: bool = False) -> OpenObject:
        found = self.get(GetRequest(key))
        return OpenObject(found, iter([found.body]), lambda: None)


def key_of(number: int) -> str:
    """The key of an arriving object: in no order, as keys that begin with a hash are."""
    return f"orders/{number * 2_654_435_761 % 2**32:08x}/{number}"


def _order(number: int) -> bytes:
    mixed = number * 2_654_435_761 % 2**32
    return (
        f'{{"id":"o{number}","customer":{{"id":"c{mixed % 100_003}"}},"country":"{COUNTRIES[mixed % 5]}",'
        f'"amount":"{mixed % 500}.{mixed % 89 + 10}","created_at":"2026-{mixed % 12 + 1:02}-{mixed % 28 + 1:02}T'
        f'{mixed % 24:02}:{mixed % 60:02}:00Z"}}\n'
    ).encode()


class Message(NamedTuple):
    """An object's event."""

    key: str
    at: float


class Process:
    """An engine as one function has it, warm, and its requests to the index counted."""

    def __init__(self, deployment: Deployment) -> None:
        self.runtime = VirtualRuntime(deployment.world)
        self.index = CountingStore(DistantStore(deployment.index, deployment.world, self.runtime, S3))
        data = DistantStore(deployment.data, deployment.world, self.runtime, S3)
        self.engine = Engine(self.index, data, self.runtime)


class Deployment:
    """One table of the benchmark's orders, into which objects arrive at a steady `rate` a second, of `rows` each."""

    table = ORDERS.name

    def __init__(self, rate: float, rows: int = 1, seed: int = 0) -> None:
        self.world = World(seed)
        self.index, self.data = Shelf("memory://index"), Generated(rows)
        Engine(self.index, self.data, VirtualRuntime(self.world)).create_table(ORDERS)
        self.rate, self.arrived, self.began = rate, 0, self.world.now
        self.objects = self.rows = self.commits = self.swaps_lost = 0
        self.indexer_gave_up = self.compactor_gave_up = self.schedule_gave_up = 0
        self.lags: list[float] = []
        self.indexers = [Process(self) for _ in range(INDEXERS)]
        self.compactors = [Process(self) for _ in range(COMPACTIONS_AT_ONCE)]
        self.scheduled = Process(self)
        self._ready: deque[list[Message]] = deque()
        self._asked: set[tuple[str, int]] = set()
        self._groups: dict[str, deque[str]] = defaultdict(deque)
        self._locked: set[str] = set()
        self._idle: dict[Callable[[], object | None], list[greenlet]] = defaultdict(list)
        for _ in range(POLLERS):
            self.world.spawn(self._poll)
        for process in self.indexers:
            self.world.spawn(lambda process=process: self._index(process))
        for process in self.compactors:
            self.world.spawn(lambda process=process: self._compact(process))
        self.world.spawn(self._schedule, SCHEDULE_S)

    @property
    def manifest(self) -> Manifest:
        """As it is now."""
        return Engine(self.index, self.index).load(self.table).manifest

    def waiting(self) -> int:
        """Messages that no indexer has taken."""
        return sum(map(len, self._ready))

    def _poll(self) -> None:
        """Gathers what arrives at one poller until its window ends or its batch is full."""
        draw = self.world.random.expovariate
        following = self.world.now + draw(self.rate / POLLERS)
        while True:
            self.world.sleep(following - self.world.now)
            batch: list[Message] = []
            closes = following + WINDOW_S
            while following <= closes and len(batch) < BATCH:
                batch.append(Message(key_of(self.arrived), following))
                self.arrived += 1
                closed = following
                following += draw(self.rate / POLLERS)
            self.world.sleep(max(0.0, (closed if len(batch) == BATCH else closes) - self.world.now))
            self._ready.append(batch)
            self._wake(self._next_batch)

    def _wait_for(self, take: Callable[[], list[Message] | str | None]) -> list[Message] | str:
        while (taken := take()) is None:
            self._idle[take].append(getcurrent())
            self.world.park()
        return taken

    def _wake(self, take: Callable[[], object | None]) -> None:
        if self._idle[take]:
            self.world.wake(self._idle[take].pop())

    def _next_batch(self) -> list[Message] | None:
        """The oldest messages; where more wait than are taken, batches are full."""
        if not self._ready:
            return None
        batch = self._ready.popleft()
        while self._ready and len(batch) + len(self._ready[0]) <= BATCH:
            batch += self._ready.popleft()
        return batch

    def _next_view(self) -> str | None:
        """The view of a message whose group nobody works on."""
        for view, messages in self._groups.items():
            if messages and view not in self._locked:
                self._locked.add(view)
                return messages.popleft()
        return None

    def _index(self, process: Process) -> None:
        while True:
            batch = self._wait_for(self._next_batch)
            try:
                result = process.engine.apply(self.table, [Event(message.key, "created") for message in batch])
            except CommitGaveUpError:
                self.indexer_gave_up += 1
                self._ready.append(batch)
                continue
            self.objects += len(result.applied)
            self.rows += result.rows
            self.commits += result.commits
            self.lags += [self.world.now - message.at for message in batch]
            self._ask(process)

    def _ask(self, process: Process) -> None:
        """As functions/maintenance_queue.py does."""
        period = int(self.world.now // REPEAT_S)
        for view in process.engine.debt(process.engine.load(self.table).manifest):
            if (view, period) not in self._asked:
                self._asked.add((view, period))
                self._groups[view].append(view)
                self._wake(self._next_view)

    def _compact(self, process: Process) -> None:
        while True:
            view = self._wait_for(self._next_view)
            try:
                process.engine.compact(self.table, view, mode="tiered", in_time=self._budget())
            except CommitGaveUpError:  # the message is done all the same: the next commit asks again
                self.compactor_gave_up += 1
            self._locked.discard(view)
            self._wake(self._next_view)

    def _budget(self) -> Callable[[], bool]:
        """Whether a turn that begins now has time left."""
        end = self.world.now + BUDGET_S
        return lambda: self.world.now < end

    def _schedule(self) -> None:
        """As functions/compactor does on its schedule, one turn after the other."""
        while True:
            began, in_time, engine = self.world.now, self._budget(), self.scheduled.engine
            try:
                engine.collect(self.table)
                for view in engine.debt(engine.load(self.table).manifest):
                    engine.compact(self.table, view, mode="tiered", in_time=in_time)
            except CommitGaveUpError:
                self.schedule_gave_up += 1
            self.world.sleep(max(0.0, began + SCHEDULE_S - self.world.now))
