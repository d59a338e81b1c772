"""What the engine's tests share: a table with every kind of view, tiny bounds, a random workload, and a rebuild to compare with."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from bucketdex.definition import TableDefinition
from bucketdex.engine import Engine, Event, Settings
from bucketdex.runtime import Runtime
from bucketdex.storage import ObjectStore, RunWriter, open_data_store, open_index_store
from bucketdex.views import BlockCache, Snapshot, views_of

DEFINITION = TableDefinition.from_dict(
    "orders",
    {
        "source": {"prefix": "orders/", "format": "ndjson"},
        "fields": {
            "id": "string",
            "customer": {"type": "string", "path": "customer.id"},
            "country": "string",
            "amount": "decimal",
            "score": "float",
            "items": "int",
            "tags": {"type": "string", "path": "tags[]"},
            "created_at": {"type": "timestamp", "required": True},
        },
        "indexes": {
            "by_customer": ["customer", "created_at"],
            "by_amount": ["amount"],
            "by_score": ["score", "items"],
            "by_tag": ["tags", "created_at"],
        },
        "summaries": {
            "revenue": {
                "group_by": ["country", "day(created_at)"],
                "measures": {
                    "orders": "count()",
                    "priced": "count(amount)",
                    "revenue": "sum(amount)",
                    "mean": "avg(amount)",
                    "least": "min(amount)",
                    "largest": "max(amount)",
                    "spread": "stddev(amount)",
                    "customers": "count_distinct(customer)",
                },
            },
            "scores": {
                "group_by": ["customer"],
                "measures": {
                    "total": "sum(score)",
                    "mean": "avg(score)",
                    "variance": "var(score)",
                    "top": "max(score)",
                    "items": "sum(items)",
                    "fewest": "min(items)",
                    "first": "min(created_at)",
                },
            },
        },
    },
)

TINY = Settings(
    alone_bytes=6_000,
    alone_rows=25,
    wave_objects=3,
    delta_rows_max=12,
    flush_rows=20,
    inline_bytes_max=600,
    inline_total_max=2_500,
    touched_max=6,
    log_bytes_max=120,
    log_entries_max=5,
    debt_deltas=3,
    debt_rows=30,
    step_rows=40,
    block_bytes=700,
    merge_blocks=2,
    grace_seconds=100.0,
    backoff_seconds_first=0.0,
)


class TestRuntime(Runtime):
    """A clock that only the test moves, names that repeat from run to run, no waiting, no threads."""

    __test__ = False

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.clock = 1_700_000_000.0
        self._random = random.Random(seed)

    def now(self) -> float:
        return self.clock

    def token(self) -> str:
        return f"{self._random.getrandbits(64):016x}"

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def sleep(self, seconds: float) -> None:
        self.clock += seconds

    def map(self, function: Any, items: Any) -> list[Any]:
        return [function(item) for item in items]


class Bench:
    """A data bucket, an index bucket and an engine between them."""

    def __init__(self, seed: int = 0, settings: Settings = TINY, index: ObjectStore | None = None) -> None:
        self.data = open_data_store("memory://")
        self.index = index or open_index_store("memory://")
        self.runtime = TestRuntime(seed)
        self.settings = settings
        self.engine = Engine(self.index, self.data, self.runtime, settings=settings)
        self.engine.define(DEFINITION)

    def put(self, key: str, documents: list[dict[str, Any]]) -> None:
        self.data.put(key, b"".join(json.dumps(d).encode() + b"\n" for d in documents))

    def apply(self, *keys: str) -> None:
        result = self.engine.apply("orders", [Event(key) for key in keys])
        assert not result.failed, result.failed

    def snapshot(self) -> Snapshot:
        return Snapshot(self.index, self.engine.load("orders").manifest, DEFINITION, BlockCache())

    def contents(self) -> dict[str, Any]:
        """Every view's folded content, as a reader sees it."""
        return contents(self.snapshot())

    def rebuilt(self) -> dict[str, Any]:
        """What an index made from nothing out of the bucket as it is now holds."""
        index = open_index_store("memory://")
        fresh = Engine(index, self.data, TestRuntime(99), settings=Settings())
        fresh.define(DEFINITION)
        keys = [listed.key for listed in self.data.list("orders/")]
        if keys:
            assert not fresh.apply("orders", [Event(key) for key in keys]).failed
        manifest = fresh.load("orders").manifest
        return contents(Snapshot(index, manifest, DEFINITION, BlockCache()))


def contents(snapshot: Snapshot) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for view in views_of(snapshot.definition):
        if view.kind == "summary":
            if not view.hidden:
                out[view.name] = list(snapshot.summary_rows(view.name, None, None))
            continue
        entries = list(snapshot.scan(view.name, None, None))
        assert all(entry.weight == 1 for entry in entries), view.name
        assert [e.key for e in entries] == sorted(e.key for e in entries)
        assert snapshot.count(view.name, None, None) == len(entries)
        backwards = list(snapshot.scan(view.name, None, None, reverse=True))
        assert backwards == entries[::-1], view.name
        out[view.name] = [entry.line for entry in entries]
    return out


def documents(random_: random.Random, count: int) -> list[dict[str, Any]]:
    return [document(random_) for _ in range(count)]


def document(r: random.Random) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": f"o{r.randrange(1000)}",
        "customer": {"id": r.choice(["c1", "c10", "c2", 'q"', "né\u4e2d", "", "\x00a", "a\x01"])},
        "country": r.choice(["DE", "FR", None]),
        "amount": r.choice(
            [None, "10.50", "-3", "0", "1e3", "123456789.123", f"{r.randrange(100)}.{r.randrange(100)}"]
        ),
        "score": r.choice([None, 0.1, 0.2, -1e300, 1e300, 5e-324, r.random()]),
        "items": r.choice([None, 0, 1, -5, 2**62, r.randrange(10)]),
        "tags": r.sample(["a", "b", "c", "dd"], r.randrange(4)),
        "created_at": f"2026-01-{r.randrange(1, 4):02d}T0{r.randrange(10)}:00:00Z",
    }
    if r.random() < 0.05:
        made["created_at"] = "never"
    return made


def read_in_blocks(monkeypatch: Any) -> None:
    """Every file is read by footer, filter and blocks, and runs have several files each."""
    monkeypatch.setattr("bucketdex.views.loader.WHOLE_FILE_BYTES", 0)
    monkeypatch.setattr("bucketdex.engine.runs.RunWriter", partial(RunWriter, file_bytes=600))


def interrupted(steps: int) -> Callable[[], bool]:
    """An `in_time` that says yes so many times."""
    left = iter([True] * steps)
    return lambda: next(left, False)


class InterleavingStore(ObjectStore):
    """Runs somebody else's work right before a manifest is swapped: the schedule that optimistic concurrency exists for."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self.url = inner.url
        self.before_swap: Any = None

    def get(self, request: Any) -> Any:
        return self.inner.get(request)

    def get_many(self, requests: Any) -> Any:
        return self.inner.get_many(requests)

    def open(self, key: str, **options: Any) -> Any:
        return self.inner.open(key, **options)

    def put(self, key: str, body: bytes, **conditions: Any) -> str:
        if key.endswith("manifest.json") and self.before_swap is not None:
            self.before_swap()
        return self.inner.put(key, body, **conditions)

    def delete_many(self, keys: Any) -> None:
        self.inner.delete_many(keys)

    def list(self, prefix: str, *, start_after: str | None = None) -> Any:
        return self.inner.list(prefix, start_after=start_after)

    def folders(self, prefix: str) -> Any:
        return self.inner.folders(prefix)

    def tags(self, key: str) -> dict[str, str]:
        return self.inner.tags(key)

    def with_retries(self, enabled: bool) -> ObjectStore:
        return self
