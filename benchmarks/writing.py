"""What several writers of one table do, what is counted, and whether it came out right. Changes with the workloads."""

from __future__ import annotations

import json
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Literal, NamedTuple

from benchmarks.datasets import ORDERS
from bucketdex import Database, TableDefinition
from bucketdex.engine import Engine, Event
from bucketdex.errors import CommitGaveUpError
from bucketdex.runtime import Runtime
from bucketdex.storage import CountingStore, GetRequest, ObjectStore

HOT_KEYS = 128

Mode = Literal["apart", "hot", "bulk"]


class Plan(NamedTuple):
    """What each of several writers does: `batches` commits of `size` objects.

    apart: keys of its own, one row each. hot: all draw from the same few keys, and overwrite each before its batch.
    bulk: one object of `size` rows a commit.
    """

    mode: Mode
    size: int
    batches: int
    writers: int

    @property
    def table(self) -> str:
        """A table of its own for each plan."""
        return f"{self.mode}_{self.size}_{self.writers}"

    @property
    def prefix(self) -> str:
        """Where its objects are."""
        return f"orders/{self.table}/"

    @property
    def definition(self) -> TableDefinition:
        """Five fields, three indexes, a summary."""
        source = {"prefix": self.prefix, "format": "ndjson"}
        return TableDefinition.from_dict(self.table, {**ORDERS.to_dict(), "source": source})

    def keys(self, writer: int) -> Iterator[list[str]]:
        """The keys of each batch of a writer, the same in every run."""
        draw = random.Random(writer)
        for batch in range(self.batches):
            if self.mode == "hot":
                yield [f"{self.prefix}{number:03}" for number in draw.sample(range(HOT_KEYS), self.size)]
            else:
                objects = 1 if self.mode == "bulk" else self.size
                yield [f"{self.prefix}{writer:02}/{batch:03}/{number:03}" for number in range(objects)]

    def uploads(self) -> list[str]:
        """All keys that anybody writes."""
        return sorted({key for writer in range(self.writers) for batch in self.keys(writer) for key in batch})

    def body(self, key: str, version: str = "") -> bytes:
        """An object: one order, or with mode "bulk" `size` of them."""
        draw = random.Random(f"{key} {version}")
        return b"".join(_order(draw, f"{key} {line}") for line in range(self.size if self.mode == "bulk" else 1))


def _order(draw: random.Random, identity: str) -> bytes:
    order = {
        "id": identity,
        "customer": {"id": f"c{draw.randrange(10_000)}"},
        "country": draw.choice(("DE", "FR", "US", "GB", "IT")),
        "amount": f"{draw.randrange(500)}.{draw.randrange(100):02}",
        "created_at": f"2026-{draw.randrange(1, 13):02}-{draw.randrange(1, 29):02}T{draw.randrange(24):02}:00:00Z",
    }
    return json.dumps(order).encode() + b"\n"


class Done(NamedTuple):
    """A commit that landed, by one clock."""

    at: float
    objects: int
    rows: int


class Tally(NamedTuple):
    """What writers did. `swaps` are PUTs of the manifest; requests of uploads are left out."""

    commits: list[Done]
    swaps: int
    redone: int
    gave_up: int
    gets: int
    puts: int
    began: float  # the last of them
    ended: float  # the first of them: in between all were at work

    @property
    def objects(self) -> int:
        """Applied, again and again where keys are hot."""
        return sum(done.objects for done in self.commits)

    @property
    def lost(self) -> int:
        """Swaps that another commit came before."""
        return self.swaps - len(self.commits)

    def rates(self) -> Done:
        """Objects and rows a second while all were at work, and commits a second as `at`."""
        inside = [done for done in self.commits if self.began < done.at <= self.ended]
        seconds = self.ended - self.began
        counts = (len(inside), sum(done.objects for done in inside), sum(done.rows for done in inside))
        return Done(*(count / seconds for count in counts))  # type: ignore[arg-type]


def together(tallies: Sequence[Tally]) -> Tally:
    """The tally of all writers."""
    counts = (sum(column) for column in zip(*(tally[1:6] for tally in tallies), strict=True))
    commits = [done for tally in tallies for done in tally.commits]
    return Tally(commits, *counts, max(tally.began for tally in tallies), min(tally.ended for tally in tallies))


class Writer:
    """One indexer: applies its batches, and later again what it had to give up, as the queue would have it."""

    def __init__(self, plan: Plan, index: ObjectStore, data: ObjectStore, runtime: Runtime) -> None:
        self._plan, self._runtime = plan, runtime
        self._index, self._data = CountingStore(index), CountingStore(data)
        self._engine = Engine(self._index, self._data, runtime)

    def warm(self) -> None:
        """Connects, and loads what is loaded on first use."""
        self._engine.load(self._plan.table)

    def write(self, writer: int, clock: Callable[[], float]) -> Tally:
        """All batches of one writer."""
        for store in (self._index, self._data):
            store.reset()
        commits: list[Done] = []
        redone = gave_up = uploads = 0
        began = clock()
        waiting = deque(enumerate(self._plan.keys(writer)))
        while waiting:
            number, keys = waiting.popleft()
            if self._plan.mode == "hot":
                uploads += len(self._runtime.map(lambda key, n=number: self._overwrite(key, f"{writer} {n}"), keys))
            try:
                result = self._engine.apply(self._plan.table, [Event(key) for key in keys])
            except CommitGaveUpError:
                gave_up += 1
                waiting.append((number, keys))
                continue
            for error in result.failed.values():
                raise error
            commits.append(Done(clock(), len(result.applied), result.rows))
            redone += result.redone
        ended = clock()
        swaps = sum(1 for entry in self._index.log if entry.op == "put" and entry.key.endswith("/manifest.json"))
        requests = self._index.requests + self._data.requests
        return Tally(commits, swaps, redone, gave_up, requests["get"], requests["put"] - uploads, began, ended)

    def _overwrite(self, key: str, version: str) -> None:
        self._data.put(key, self._plan.body(key, version))


def check(plan: Plan, index: ObjectStore, data: ObjectStore) -> None:
    """AssertionError unless the index holds what the bucket holds: rows and sums by plain Python, and every index and
    summary by `verify`.
    """
    orders = [json.loads(line) for key in plan.uploads() for line in data.get(GetRequest(key)).body.splitlines()]
    table = Database(index).table(plan.table)
    rows = table.where().allow_scan().rows()
    found = Counter((row["id"], row["country"], row["amount"]) for row in rows)
    expected = Counter((order["id"], order["country"], Decimal(order["amount"])) for order in orders)
    assert found == expected, f"{plan.table}: {sum(found.values())} rows instead of {sum(expected.values())}"
    sums: Counter[tuple[str, str]] = Counter()
    for order in orders:
        sums[order["country"], order["created_at"][:10]] += Decimal(order["amount"])  # type: ignore[assignment]
    groups = table.summary("revenue").rows()
    stored = {(group["country"], group["created_at_day"]): group["revenue"] for group in groups}
    assert stored == sums, f"{plan.table}: sums differ"
    verified = Engine(index, data).verify(plan.table, deep=True, sample=1e-9, settle_seconds=0)
    assert not verified.differences and not verified.views, verified
