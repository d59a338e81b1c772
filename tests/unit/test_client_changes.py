"""`changes(since)`: what a table's rows became, whatever was committed, compacted or collected in between."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from enginekit import TINY, Bench, documents, interrupted, read_in_blocks

from bucketdex import Database, QueryError, SnapshotExpiredError, Table
from bucketdex.views import RECORDS


def table_of(bench: Bench) -> Table:
    return Database(bench.index, bench.data, runtime=bench.runtime).table("orders")


def plain(rows: list[dict[str, Any]]) -> Counter[str]:
    return Counter(map(repr, rows))


@pytest.mark.parametrize("seed", range(4))
def test_changes_lead_from_every_generation_to_the_newest(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if seed % 2:
        read_in_blocks(monkeypatch)
    bench, rng = Bench(seed), random.Random(seed)
    table = table_of(bench)
    seen: dict[int, list[dict[str, Any]]] = {}
    for step in range(9):
        keys = [f"orders/{rng.randrange(6)}.ndjson" for _ in range(rng.choice([1, 2, 5]))]
        for key in keys:
            bench.put(key, documents(rng, rng.choice([0, 3, 60])))
        bench.apply(*keys)
        if step % 3 == 2:
            mode = rng.choice(["tidy", "full", "tiered"])
            bench.engine.compact("orders", RECORDS, mode=mode, in_time=interrupted(rng.randrange(1, 4)))  # type: ignore[arg-type]
        rows = table.rows()
        generation = table.status()["generation"]
        for since, before in seen.items():
            found = table.changes(since)
            assert found.generation == generation
            gained, lost = plain(found.added), plain(found.removed)
            assert not gained & lost and plain(before) - lost + gained == plain(rows)
            assert [row["_key"] for row in found.added] == sorted(row["_key"] for row in found.added)
        seen[generation] = rows
    assert table.changes(since=generation) == ([], [], generation)


def test_changes_of_an_overwrite_and_a_delete() -> None:
    bench = Bench()
    table = table_of(bench)
    day = {"created_at": "2026-01-01T00:00:00Z"}
    bench.put("orders/a", [{"id": "1"} | day, {"id": "2"} | day])
    bench.put("orders/b", [{"id": "3"} | day])
    bench.apply("orders/a", "orders/b")
    since = table.status()["generation"]
    bench.put("orders/a", [{"id": "1"} | day, {"id": "4"} | day])
    table.delete("orders/b")
    bench.apply("orders/a")
    found = table.changes(since=since)
    assert [row["id"] for row in found.added] == ["4"] and [row["id"] for row in found.removed] == ["2", "3"]
    assert table.changes(found.generation).added == []


def test_what_cannot_be_told_is_an_error() -> None:
    bench = Bench()
    table = table_of(bench)
    for round_ in range(3):
        bench.put("orders/a", documents(random.Random(round_), 5))
        bench.apply("orders/a")
    first = table.status()["generation"] - 2
    bench.engine.compact("orders", mode="full")
    assert table.changes(first).added
    bench.runtime.clock += TINY.grace_seconds + 1
    bench.engine.collect("orders")
    with pytest.raises(SnapshotExpiredError, match="grace"):
        table.changes(first)
    for nonsense in (-1, True, "3", None, 10_000):
        with pytest.raises(QueryError, match="changes"):
            table.changes(nonsense)  # type: ignore[arg-type]
